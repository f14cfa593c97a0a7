#include "meter/profile.h"

#include "meter/calendar.h"

#include <string.h>

enum { SEASONS = 4, DAY_KINDS = 2, HALF_HOURS = 48 };

/* Mean and standard deviation of the half-hourly consumption in Wh, over all three homes and all
 * days of the season and kind. */
/* clang-format off */
static const uint16_t mean_wh[SEASONS][DAY_KINDS][HALF_HOURS] = {
    {
        {
            373, 295, 226, 181, 164, 154, 153, 144, 144, 142, 150, 150, 154, 196, 255, 432,
            420, 453, 376, 387, 384, 363, 380, 380, 366, 407, 411, 425, 439, 447, 407, 390,
            394, 461, 511, 610, 699, 779, 840, 806, 685, 637, 582, 564, 511, 499, 497, 453,
        }, /* winter, Monday to Friday */
        {
            435, 380, 304, 246, 196, 175, 159, 144, 144, 148, 158, 175, 173, 183, 210, 246,
            311, 317, 334, 390, 429, 465, 468, 469, 459, 485, 484, 533, 507, 514, 460, 501,
            540, 597, 603, 609, 698, 766, 830, 726, 639, 603, 517, 560, 469, 502, 477, 469,
        }, /* winter, weekend */
    },
    {
        {
            273, 217, 176, 164, 156, 153, 143, 148, 140, 142, 158, 186, 202, 312, 307, 333,
            349, 381, 369, 334, 367, 363, 325, 346, 340, 368, 353, 328, 362, 322, 312, 325,
            339, 362, 399, 481, 569, 613, 659, 553, 554, 504, 494, 553, 476, 459, 389, 326,
        }, /* spring, Monday to Friday */
        {
            341, 284, 274, 245, 188, 182, 158, 144, 159, 164, 166, 218, 190, 216, 221, 241,
            330, 351, 350, 364, 362, 407, 384, 401, 432, 417, 470, 422, 446, 410, 456, 396,
            375, 419, 478, 633, 584, 650, 620, 555, 517, 525, 463, 442, 463, 416, 370, 313,
        }, /* spring, weekend */
    },
    {
        {
            282, 244, 198, 190, 207, 213, 189, 172, 169, 169, 174, 210, 241, 305, 313, 310,
            317, 341, 326, 334, 301, 314, 333, 314, 307, 340, 344, 330, 342, 306, 320, 328,
            330, 338, 381, 520, 576, 538, 476, 467, 485, 478, 483, 461, 470, 431, 398, 324,
        }, /* summer, Monday to Friday */
        {
            330, 289, 233, 208, 212, 215, 192, 171, 190, 210, 197, 208, 223, 261, 255, 298,
            350, 427, 418, 385, 395, 362, 369, 382, 421, 453, 444, 367, 352, 363, 338, 343,
            384, 404, 389, 471, 693, 683, 484, 505, 532, 499, 462, 481, 506, 488, 387, 352,
        }, /* summer, weekend */
    },
    {
        {
            281, 233, 186, 171, 158, 161, 147, 156, 149, 149, 164, 192, 219, 308, 333, 405,
            381, 411, 376, 356, 347, 339, 332, 345, 345, 361, 352, 337, 335, 324, 315, 354,
            376, 428, 517, 612, 673, 751, 721, 610, 601, 528, 481, 488, 472, 496, 413, 331,
        }, /* autumn, Monday to Friday */
        {
            336, 268, 226, 189, 179, 171, 151, 155, 153, 171, 169, 177, 197, 228, 236, 258,
            316, 400, 395, 414, 424, 360, 376, 375, 404, 393, 509, 440, 476, 439, 410, 422,
            458, 457, 495, 614, 631, 648, 596, 583, 547, 489, 496, 444, 505, 459, 401, 353,
        }, /* autumn, weekend */
    },
};
static const uint16_t spread_wh[SEASONS][DAY_KINDS][HALF_HOURS] = {
    {
        {
            223, 193, 157, 107, 83, 69, 78, 66, 67, 53, 66, 65, 68, 91, 133, 205,
            204, 312, 337, 356, 382, 342, 379, 353, 330, 407, 376, 442, 456, 420, 392, 387,
            354, 368, 408, 481, 572, 602, 621, 510, 364, 410, 380, 373, 326, 287, 279, 239,
        }, /* winter, Monday to Friday */
        {
            247, 237, 188, 165, 127, 100, 73, 56, 50, 57, 81, 123, 106, 63, 90, 127,
            231, 221, 292, 324, 392, 398, 359, 345, 360, 372, 397, 474, 449, 409, 345, 445,
            440, 477, 465, 425, 538, 598, 697, 557, 442, 436, 322, 366, 258, 288, 267, 246,
        }, /* winter, weekend */
    },
    {
        {
            173, 121, 92, 86, 66, 63, 57, 76, 56, 61, 80, 83, 100, 218, 186, 205,
            247, 347, 308, 302, 361, 337, 283, 313, 307, 363, 383, 332, 345, 297, 301, 274,
            250, 294, 329, 400, 504, 502, 473, 340, 346, 294, 294, 372, 258, 246, 226, 219,
        }, /* spring, Monday to Friday */
        {
            221, 165, 181, 160, 106, 112, 90, 57, 92, 118, 96, 153, 118, 149, 137, 179,
            253, 348, 294, 265, 289, 403, 337, 295, 345, 312, 446, 345, 404, 366, 479, 374,
            278, 291, 428, 633, 521, 614, 535, 399, 312, 326, 277, 230, 274, 224, 250, 188,
        }, /* spring, weekend */
    },
    {
        {
            166, 142, 98, 90, 123, 154, 105, 103, 67, 82, 86, 103, 134, 139, 180, 216,
            227, 271, 226, 238, 183, 223, 259, 235, 213, 257, 288, 231, 248, 198, 235, 247,
            201, 243, 312, 454, 479, 400, 289, 277, 301, 261, 259, 221, 231, 218, 229, 183,
        }, /* summer, Monday to Friday */
        {
            191, 167, 115, 94, 116, 111, 102, 77, 92, 135, 100, 71, 121, 179, 189, 264,
            340, 367, 326, 331, 284, 225, 294, 298, 341, 363, 338, 245, 229, 234, 228, 199,
            246, 287, 253, 318, 606, 542, 307, 338, 367, 337, 257, 308, 267, 205, 187, 191,
        }, /* summer, weekend */
    },
    {
        {
            191, 152, 101, 71, 58, 69, 56, 69, 63, 69, 84, 124, 140, 145, 205, 209,
            243, 273, 294, 295, 268, 256, 290, 274, 316, 341, 321, 302, 279, 293, 268, 282,
            250, 288, 395, 434, 419, 472, 419, 296, 269, 259, 224, 240, 224, 235, 242, 216,
        }, /* autumn, Monday to Friday */
        {
            200, 143, 158, 91, 88, 90, 51, 64, 66, 101, 93, 76, 95, 144, 131, 167,
            211, 264, 330, 301, 307, 239, 275, 302, 391, 281, 458, 321, 353, 332, 326, 343,
            338, 295, 392, 496, 445, 507, 422, 359, 308, 236, 278, 203, 250, 206, 208, 246,
        }, /* autumn, weekend */
    },
};
/* clang-format on */

/* splitmix64: every call with another input gives an unrelated number. */
static uint64_t mix(uint64_t v)
{
    v += 0x9e3779b97f4a7c15u;
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return v ^ v >> 31;
}

static uint64_t meter_seed(uint64_t seed, const struct ami_id *meter)
{
    uint64_t v = mix(seed);
    for (uint8_t i = 0; i < meter->size; i++)
        v = mix(v ^ (uint8_t)meter->text[i]);
    return v;
}

/* Roughly normal, mean 0 and variance 1, in 1/1024: the sum of twelve uniform numbers. */
static int64_t normal_1024(uint64_t random)
{
    int64_t sum = 0;
    for (int i = 0; i < 12; i++) {
        sum += (int64_t)(random >> 54); /* 10 bits */
        random = mix(random);
    }
    return sum - 12 * 1023 / 2;
}

static unsigned season_of(int month)
{
    return (unsigned)(month % 12) / 3; /* December to February is winter, 0 */
}

void profile_reading(struct reading *out, uint64_t seed, const struct ami_id *meter, uint64_t index)
{
    static const uint8_t obis[6] = {1, 0, 1, 29, 0, 255};
    int64_t start_s = PROFILE_START_S + (int64_t)index * PROFILE_INTERVAL_S;
    struct calendar_time t = calendar_from_s(start_s);
    unsigned half_hour = (unsigned)t.hour * 2 + (unsigned)t.minute / 30;
    unsigned kind = t.weekday >= 5;
    uint64_t own = meter_seed(seed, meter);
    int64_t mean = mean_wh[season_of(t.month)][kind][half_hour];
    int64_t spread = spread_wh[season_of(t.month)][kind][half_hour];
    int64_t z = normal_1024(mix(own ^ mix(index)));
    /* Consumption is skewed: few high values, many low ones (Cornish-Fisher, skewness 1.5). */
    int64_t skewed = z + (z * z / 1024 - 1024) / 4;
    int64_t wh = mean + spread * skewed / 1024;
    if (wh < mean / 4)
        wh = mean / 4;
    /* Households differ: 0.5 to 1.5 times the mean one. */
    wh = wh * (int64_t)(512 + own % 1024) / 1024;
    *out = (struct reading){.unit = UNIT_KWH,
                            .scaler = -3,
                            .interval_s = PROFILE_INTERVAL_S,
                            .start_s = start_s,
                            .mantissa = wh};
    memcpy(out->obis, obis, sizeof obis);
}
