#include "channel/label.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

static const char *const category_names[LABEL_CATEGORIES] = {
#define X(name, text) text,
    LABEL_CATEGORY_TABLE(X)
#undef X
};

bool label_dominates(struct label a, struct label b)
{
    return a.level >= b.level && (a.categories & b.categories) == b.categories;
}

bool label_may_read(struct label subject, struct label object)
{
    return label_dominates(subject, object);
}

bool label_may_write(struct label subject, struct label object)
{
    return label_dominates(object, subject);
}

bool label_valid(struct label l)
{
    return l.level <= LABEL_LEVEL_MAX && l.categories >> LABEL_CATEGORIES == 0;
}

void label_text(char out[LABEL_TEXT_BYTES], struct label l)
{
    size_t at = (size_t)snprintf(out, LABEL_TEXT_BYTES, "%u:", l.level);
    const char *plus = "";
    for (unsigned i = 0; i < LABEL_CATEGORIES; i++) {
        if ((l.categories >> i & 1) == 0)
            continue;
        at += (size_t)snprintf(out + at, LABEL_TEXT_BYTES - at, "%s%s", plus, category_names[i]);
        AMI_CHECK(at < LABEL_TEXT_BYTES);
        plus = "+";
    }
}

static bool category_parse(struct label *out, const char *text, size_t size)
{
    for (unsigned i = 0; i < LABEL_CATEGORIES; i++) {
        if (strlen(category_names[i]) != size || memcmp(category_names[i], text, size) != 0)
            continue;
        if ((out->categories >> i & 1) != 0)
            return false;
        out->categories |= (uint8_t)(1u << i);
        return true;
    }
    return false;
}

enum ami_status label_parse(struct label *out, const char *text)
{
    struct label l = {0};
    if (text[0] < '0' || text[0] > '0' + LABEL_LEVEL_MAX || text[1] != ':')
        return AMI_BAD_ARGUMENT;
    l.level = (uint8_t)(text[0] - '0');
    for (const char *at = text + 2; *at != '\0';) {
        size_t size = strcspn(at, "+");
        if (!category_parse(&l, at, size))
            return AMI_BAD_ARGUMENT;
        at += size;
        if (*at == '+' && *++at == '\0')
            return AMI_BAD_ARGUMENT;
    }
    *out = l;
    return AMI_OK;
}
