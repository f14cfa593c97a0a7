#include "base/bytes.h"

#include <string.h>

bool span_equal(struct span a, struct span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

void hex_encode(char *out, const uint8_t *in, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    out[2 * size] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

enum ami_status hex_decode(uint8_t *out, size_t size, const char *text)
{
    for (size_t i = 0; i < size; i++) {
        int high = hex_value(text[2 * i]);
        int low = high < 0 ? -1 : hex_value(text[2 * i + 1]);
        if (low < 0)
            return AMI_BAD_ENCODING;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * size] == '\0' ? AMI_OK : AMI_BAD_ENCODING;
}

static bool id_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

enum ami_status ami_id_set(struct ami_id *out, const char *text, size_t size)
{
    if (size == 0 || size > AMI_ID_BYTES_MAX)
        return AMI_BAD_ARGUMENT;
    for (size_t i = 0; i < size; i++)
        if (!id_character(text[i]))
            return AMI_BAD_ARGUMENT;
    struct ami_id id = {.size = (uint8_t)size};
    memcpy(id.text, text, size);
    *out = id;
    return AMI_OK;
}

enum ami_status ami_id_from_text(struct ami_id *out, const char *text)
{
    return ami_id_set(out, text, strlen(text));
}

bool ami_id_equal(const struct ami_id *a, const struct ami_id *b)
{
    return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

int ami_id_compare(const struct ami_id *a, const struct ami_id *b)
{
    size_t common = a->size < b->size ? a->size : b->size;
    int order = memcmp(a->text, b->text, common);
    if (order != 0)
        return order;
    return (a->size > b->size) - (a->size < b->size);
}
