/* Every published number that crypto/ has to reproduce; each test names its standard and clause. */
#include "support.h"

#include "crypto/secret.h"
#include "crypto/sm4gcm.h"

#define ID16 "1234567812345678"

/* GM/T 0130-2023 Annex A. */
static const char ms[] = "6BDD93B210F79415FE0F6388C1C932C208319FF7D7E99C972B3535C9F19A9FF9";
static const char d_prime_a[] = "04914C20251A59A2C311102944C600430A02285A0433144228142A1848004C00";
static const char annex_w[] = "6CB28D99385C175C94F94E934817663FC176D925DD72B727260DBAAE1FB2F96F";
static const char p_pub[] = "F294B710601DE1C5D34420C4902D81C3A30644903E5799BFE4013E56C55C864C"
                            "5C003EB1B50B9BBB2E8807782AA3C38EA800E23B30B777FAAD8F0F7146D66AC1";
static const char u_a[] = "DE0ED7FD0B7D714476318954E5FBBFBFD73A67A8D65090FA6955725C10C14015"
                          "3340A21A74CBD4B0D902AA5E780F45F9D79E8C94C035CFF66357F9288CD02C27";
static const char w_a[] = "DB65BF80F08E3FEA9758A9490F2C257A2D8ADEAA59DA786CBFAFEF221E78ADB4"
                          "0728185A257F64B79DFA929C16C987ED956FB32D00B6CAF7678E56E66E01530F";
static const char h_a_hex[] = "CC2DC29253D9C77385781813985D421A6C6F9CCBCE61FAD37EC79D8B6EFC8F71";
static const char lambda_hex[] = "F84BBC966F668583D734971C2F4DE1CC8A620CD6E4D09488E1FBE2052EFDC9E0";
static const char t_a[] = "BBB6EBEB993D1EE3E5F4C265107D3AF7C094169A0E7DDD0A7400638BE271614F";
static const char d_a[] = "C048380BBE577886A905D28E55433B3ACA963EF412B0F14C9C148DA42A71AD4F";
static const char p_a[] = "12B72E936C902048F99D77F4C556D112F72FDF6A7BA24DE106BC5B7300C4B5C4"
                          "8C5AF329D45B9E6270D07645F10B283C35D8BF9A35F58AB41E8CD4A1DD70D18B";
static const char annex_k[] = "34914C20251A59A2C311102944C600430A02285A0433144228142A1848004C14";

static void gmt_0130_annex_a_key_issuance(void **state)
{
    (void)state;
    scalar x = scalar_of(ms), d_prime = scalar_of(d_prime_a), w = scalar_of(annex_w), t;
    point pub = point_mul_base(&x), u = point_mul_base(&d_prime), w_point, p;
    assert_point_hex(&pub, p_pub);
    assert_point_hex(&u, u_a);
    sm3_digest h_a = sm2_z(SPAN_LITERAL("Alice"), &pub);
    assert_hex(h_a.b, 32, h_a_hex);
    sm2_implicit_issue(&w_point, &t, &w, &x, &u, &h_a);
    assert_point_hex(&w_point, w_a);
    assert_scalar_hex(&t, t_a);
    scalar lambda = sm2_implicit_lambda(&w_point, &h_a);
    assert_scalar_hex(&lambda, lambda_hex);

    sm2_private key;
    assert_ok(sm2_implicit_accept(&key, &t, &d_prime, &w_point, &h_a, &pub));
    assert_scalar_hex(&key.d, d_a);
    assert_point_hex(&key.p, p_a);
    assert_ok(sm2_implicit_public(&p, &w_point, &h_a, &pub));
    assert_point_equal(&p, &key.p);

    /* Another t, another W or another name gives no key. */
    scalar one = scalar_of_small(1), wrong = scalar_add(&t, &one);
    assert_status(sm2_implicit_accept(&key, &wrong, &d_prime, &w_point, &h_a, &pub),
                  AMI_BAD_CRYPTO);
    assert_status(sm2_implicit_accept(&key, &t, &d_prime, &u, &h_a, &pub), AMI_BAD_CRYPTO);
    sm3_digest h_b = sm2_z(SPAN_LITERAL("Alicf"), &pub);
    assert_status(sm2_implicit_accept(&key, &t, &d_prime, &w_point, &h_b, &pub), AMI_BAD_CRYPTO);
}

static void gmt_0130_annex_a_signature(void **state)
{
    (void)state;
    sm2_private key;
    scalar d = scalar_of(d_a), k = scalar_of(annex_k);
    point w = point_of(w_a);
    sm3_digest h_a = digest_of(h_a_hex);
    assert_ok(sm2_private_init(&key, &d));
    struct span m = SPAN_LITERAL("message digest");
    sm3_digest e = sm2_implicit_digest(&h_a, &w, &m, 1);
    assert_hex(e.b, 32, "F303E917EAAD26047E24E9D7FB9ADABAA72DC0D28A6D217B06596DBE344B39F1");
    sm2_signature sig;
    assert_ok(sm2_sign_with_nonce(&sig, &key, &e, &k));
    assert_hex(sig.b, 64,
               "73CBEB43EBBD6AA5B747FAA537194CE979754A401AB5B0DA37B55F72862F1DFF"
               "F358CDF5527F157D2B7DCB74A82DBA83605290164EBAA046A584FAB0D4CEAFB0");
    assert_ok(sm2_verify(&key.p, &e, &sig));

    /* Plain SM2 hashes Z over P_A and leaves W out: another digest, whose r starts with
     * 59E58081, and neither signature passes for the other. */
    sm3_digest z_plain = sm2_z(SPAN_LITERAL("Alice"), &key.p);
    sm3_digest e_wrong = sm2_digest(&z_plain, &m, 1);
    sm2_signature other;
    assert_ok(sm2_sign_with_nonce(&other, &key, &e_wrong, &k));
    assert_hex(other.b, 4, "59E58081");
    assert_status(sm2_verify(&key.p, &e, &other), AMI_BAD_SIGNATURE);
    assert_status(sm2_verify(&key.p, &e_wrong, &sig), AMI_BAD_SIGNATURE);
}

/* GB/T 32918.5 annex A.2. */
static const char sign_d[] = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8";
static const char sign_p[] = "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
                             "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13";
static const char sign_k[] = "59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21";

static void gbt_32918_5_signature(void **state)
{
    (void)state;
    scalar d = scalar_of(sign_d), k = scalar_of(sign_k);
    sm2_private key;
    sm2_signature sig;
    assert_ok(sm2_private_init(&key, &d));
    assert_point_hex(&key.p, sign_p);
    sm3_digest z = sm2_z(SPAN_LITERAL(ID16), &key.p);
    assert_hex(z.b, 32, "B2E14C5C79C6DF5B85F4FE7ED8DB7A262B9DA7E07CCB0EA9F4747B8CCDA8A4F3");
    struct span m = SPAN_LITERAL("message digest");
    sm3_digest e = sm2_digest(&z, &m, 1);
    assert_hex(e.b, 32, "F0B43E94BA45ACCAACE692ED534382EB17E6AB5A19CE7B31F4486FDFC0D28640");
    assert_ok(sm2_sign_with_nonce(&sig, &key, &e, &k));
    assert_hex(sig.b, 64,
               "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
               "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA");
    assert_ok(sm2_verify(&key.p, &e, &sig));
}

/* GB/T 32918.5 annex C.2. */
static void gbt_32918_5_encryption(void **state)
{
    (void)state;
    static const char expected[] =
        "04EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73"
        "E858F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0"
        "59983C18F809E262923C53AEC295D30383B54E39D609D160AFCB1908D0BD8766"
        "21886CA989CA9C7D58087307CA93092D651EFA";
    scalar d = scalar_of(sign_d), k = scalar_of(sign_k);
    sm2_private key;
    assert_ok(sm2_private_init(&key, &d));
    struct span m = SPAN_LITERAL("encryption standard");
    uint8_t sealed[SM2_ENCRYPT_OVERHEAD_BYTES + 19], plain[19];
    assert_ok(sm2_encrypt_with_nonce(sealed, &key.p, m, &k));
    assert_hex(sealed, sizeof sealed, expected);
    assert_ok(sm2_decrypt(plain, &key, span_of(sealed, sizeof sealed)));
    assert_memory_equal(plain, m.data, sizeof plain);
}

/* GB/T 32918.5 annex B.2. */
static const char p_side_a[] = "160E12897DF4EDB61DD812FEB96748FBD3CCF4FFE26AA6F6DB9540AF49C94232"
                               "4A7DAD08BB9A459531694BEB20AA489D6649975E1BFCF8C4741B78B4B223007F";
static const char p_side_b[] = "6AE848C57C53C7B1B5FA99EB2286AF078BA64C64591B8B566F7357D576F16DFB"
                               "EE489D771621A27B36C5C7992062E9CD09A9264386F3FBEA54DFF69305621C4D";
static const char r_side_a[] = "64CED1BDBC99D590049B434D0FD73428CF608A5DB8FE5CE07F15026940BAE40E"
                               "376629C7AB21E7DB260922499DDB118F07CE8EAAE3E7720AFEF6A5CC062070C0";
static const char r_side_b[] = "ACC27688A6F7B706098BC91FF3AD1BFF7DC2802CDB14CCCCDB0A90471F9BD707"
                               "2FEDAC0494B2FFC4D6853876C79B8F301C6573AD0AA50F39FC87181E1A1B46FE";

static void gbt_32918_5_key_exchange(void **state)
{
    (void)state;
    scalar da = scalar_of("81EB26E941BB5AF16DF116495F90695272AE2CD63D6C4AE1678418BE48230029");
    scalar ra = scalar_of("D4DE15474DB74D06491C440D305E012400990F3E390C7E87153C12DB2EA60BB3");
    scalar db = scalar_of("785129917D45A9EA5437A59356B82338EAADDA6CEB199088F14AE10DEFA229B5");
    scalar rb = scalar_of("7E07124814B309489125EAED101113164EBF0F3458C5BD88335C1F9D596243D6");
    point pa = point_mul_base(&da), pb = point_mul_base(&db);
    point r_a = point_mul_base(&ra), r_b = point_mul_base(&rb);
    assert_point_hex(&pa, p_side_a);
    assert_point_hex(&pb, p_side_b);
    assert_point_hex(&r_a, r_side_a);
    assert_point_hex(&r_b, r_side_b);
    sm3_digest za = sm2_z(SPAN_LITERAL(ID16), &pa), zb = sm2_z(SPAN_LITERAL(ID16), &pb);
    assert_hex(za.b, 32, "3B85A57179E11E7E513AA622991F2CA74D1807A0BD4D4B38F90987A17AC245B1");
    assert_hex(zb.b, 32, "79C988D63229D97EF19FE02CA1056E01E6A7411ED24694AA8F834F4A4AB022F7");

    for (int side = 0; side < 2; side++) {
        struct sm2_exchange_in in = {.initiator = side == 0,
                                     .d = side == 0 ? &da : &db,
                                     .r = side == 0 ? &ra : &rb,
                                     .r_a = &r_a,
                                     .r_b = &r_b,
                                     .p_peer = side == 0 ? &pb : &pa,
                                     .z_a = &za,
                                     .z_b = &zb};
        struct sm2_exchange_out out;
        assert_ok(sm2_exchange(&out, &in));
        assert_hex(out.xy_v, 64,
                   "C558B44BEE5301D9F52B44D939BB59584D75B9034DD6A9FC826872109A65739F"
                   "3252B35B191D8AE01CD122C025204334C5EACF68A0CB4854C6A7D367ECAD4DE7");
        assert_hex(out.inner.b, 32,
                   "90E2A628E4F57ABD78339EA33F967D11A154117BEA442F7B627D4F4DD047B7F6");
        assert_hex(out.s_b.b, 32,
                   "D3A0FE15DEE185CEAE907A6B595CC32A266ED7B3367E9983A896DC32FA20F8EB");
        assert_hex(out.s_a.b, 32,
                   "18C7894B3816DF16CF07B05C5EC0BEF5D655D58F779CC1B400A4F3884644DB88");
        uint8_t key[16];
        sm2_exchange_key(key, sizeof key, &out, &za, &zb);
        assert_hex(key, sizeof key, "6C89347354DE2484C60B4AB1FDE4C6E5");
    }
}

static void gbt_32905_sm3(void **state)
{
    (void)state;
    sm3_digest d = sm3(SPAN_LITERAL("abc"));
    assert_hex(d.b, 32, "66C7F0F462EEEDD9D1F2D46BDC10E4E24167C4875CF2F7A2297DA02B8F4BA8E0");
}

static void hmac_sm3_vector(void **state)
{
    (void)state;
    uint8_t key[32];
    for (uint8_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i + 1);
    struct span text = SPAN_LITERAL("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
    sm3_digest d = hmac_sm3(span_of(key, sizeof key), &text, 1);
    assert_hex(d.b, 32, "BE190A66F210BE0DF56C243D5C1A53E9301FD3F0313244A412F6AE97AB7FE407");
}

static void rfc_8998_sm4_gcm(void **state)
{
    (void)state;
    sm4_key key;
    gcm_nonce nonce;
    uint8_t aad[20], text[64], sealed[80], opened[64];
    from_hex(key.b, 16, "0123456789ABCDEFFEDCBA9876543210");
    from_hex(nonce.b, 12, "00001234567800000000ABCD");
    from_hex(aad, 20, "FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2");
    static const uint8_t bytes[8] = {0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0xee, 0xaa};
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = bytes[i / 8];
    sm4gcm_seal(sealed, &key, &nonce, span_of(aad, 20), span_of(text, 64));
    assert_hex(sealed, 80,
               "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
               "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
               "83DE3541E4C2B58177E065A9BF7B62EC");
    assert_ok(sm4gcm_open(opened, &key, &nonce, span_of(aad, 20), span_of(sealed, 80)));
    assert_memory_equal(opened, text, 64);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gmt_0130_annex_a_key_issuance),
        cmocka_unit_test(gmt_0130_annex_a_signature),
        cmocka_unit_test(gbt_32918_5_signature),
        cmocka_unit_test(gbt_32918_5_encryption),
        cmocka_unit_test(gbt_32918_5_key_exchange),
        cmocka_unit_test(gbt_32905_sm3),
        cmocka_unit_test(hmac_sm3_vector),
        cmocka_unit_test(rfc_8998_sm4_gcm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
