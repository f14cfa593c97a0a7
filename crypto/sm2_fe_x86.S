/* Products of four 64-bit limbs modulo p = 2^256 - 2^224 - 2^96 + 2^64 - 1, divided by 2^256.
 *
 *   void sm2_fe_mul_adx(uint64_t out[4], const uint64_t a[4], const uint64_t b[4]);
 *   void sm2_fe_sqr_adx(uint64_t out[4], const uint64_t a[4]);
 *   void sm2_fe_mul_x86(uint64_t out[4], const uint64_t a[4], const uint64_t b[4]);
 *   void sm2_fe_sqr_x86(uint64_t out[4], const uint64_t a[4]);
 *
 * The first two need BMI2 and ADX, the others run on any x86-64. System V calling convention. The full
 * product stands in r8 to r15, least significant first. Its low half is then divided by 2^256 modulo p in
 * four steps: p = -1 modulo 2^64, so the multiple of p that clears the lowest limb m is m p, and
 * (V + m p) / 2^64 puts m in as
 *   m + m 2^192 - m 2^32 - m 2^160.
 * V is below 2^256 and stays so. The sum with the high half is below 2p and is reduced once.
 * No branch, no address and no instruction with a data-dependent time.
 */
#if defined(__x86_64__)

    .text

/* One step: clears \m0, which then holds the new top limb of the four. Uses rax, rcx. */
.macro CLEAR_LIMB m0, l1, l2, l3
    movq    \m0, %rax
    shlq    $32, %rax
    movq    \m0, %rcx
    shrq    $32, %rcx
    addq    \m0, \l1
    adcq    $0, \l2
    adcq    $0, \l3
    adcq    $0, \m0
    subq    %rax, \l1
    sbbq    %rcx, \l2
    sbbq    %rax, \l3
    sbbq    %rcx, \m0
.endm

/* r8..r15 to the result at rdi. */
.macro REDUCE_AND_STORE
    CLEAR_LIMB %r8, %r9, %r10, %r11
    CLEAR_LIMB %r9, %r10, %r11, %r8
    CLEAR_LIMB %r10, %r11, %r8, %r9
    CLEAR_LIMB %r11, %r8, %r9, %r10
    xorl    %eax, %eax
    addq    %r8, %r12
    adcq    %r9, %r13
    adcq    %r10, %r14
    adcq    %r11, %r15
    adcq    $0, %rax
    movq    %r12, %r8
    movq    %r13, %r9
    movq    %r14, %r10
    movq    %r15, %r11
    movq    $0xffffffff00000000, %rcx
    movq    $0xfffffffeffffffff, %rdx
    subq    $-1, %r8
    sbbq    %rcx, %r9
    sbbq    $-1, %r10
    sbbq    %rdx, %r11
    sbbq    $0, %rax
    cmovcq  %r12, %r8
    cmovcq  %r13, %r9
    cmovcq  %r14, %r10
    cmovcq  %r15, %r11
    movq    %r8, (%rdi)
    movq    %r9, 8(%rdi)
    movq    %r10, 16(%rdi)
    movq    %r11, 24(%rdi)
.endm

.macro SAVE
    pushq   %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq   %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq   %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq   %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq   %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
.endm

.macro RESTORE
    popq    %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq    %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq    %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq    %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq    %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
.endm

/* A row a[i] b added to \t0..\t3 with both carry chains; \t4, zero before, takes what is beyond. */
.macro ADD_ROW offset, t0, t1, t2, t3, t4
    movq    \offset(%rsi), %rdx
    mulxq   (%rcx), %rax, %rbx
    adcxq   %rax, \t0
    adoxq   %rbx, \t1
    mulxq   8(%rcx), %rax, %rbx
    adcxq   %rax, \t1
    adoxq   %rbx, \t2
    mulxq   16(%rcx), %rax, %rbx
    adcxq   %rax, \t2
    adoxq   %rbx, \t3
    mulxq   24(%rcx), %rax, %rbx
    adcxq   %rax, \t3
    adoxq   %rbx, \t4
    movl    $0, %eax
    adcxq   %rax, \t4
.endm

    .globl  sm2_fe_mul_adx
    .hidden sm2_fe_mul_adx
    .type   sm2_fe_mul_adx, @function
    .p2align 5
sm2_fe_mul_adx:
    .cfi_startproc
    SAVE
    movq    %rdx, %rcx
    movq    (%rsi), %rdx
    mulxq   (%rcx), %r8, %r9
    mulxq   8(%rcx), %rax, %r10
    mulxq   16(%rcx), %rbx, %r11
    mulxq   24(%rcx), %rdx, %r12
    addq    %rax, %r9
    adcq    %rbx, %r10
    adcq    %rdx, %r11
    adcq    $0, %r12
    xorl    %r13d, %r13d /* clears both carries as well */
    ADD_ROW 8, %r9, %r10, %r11, %r12, %r13
    xorl    %r14d, %r14d
    ADD_ROW 16, %r10, %r11, %r12, %r13, %r14
    xorl    %r15d, %r15d
    ADD_ROW 24, %r11, %r12, %r13, %r14, %r15
    REDUCE_AND_STORE
    RESTORE
    ret
    .cfi_endproc
    .size   sm2_fe_mul_adx, .-sm2_fe_mul_adx

    .globl  sm2_fe_sqr_adx
    .hidden sm2_fe_sqr_adx
    .type   sm2_fe_sqr_adx, @function
    .p2align 5
sm2_fe_sqr_adx:
    .cfi_startproc
    SAVE
    /* The six products of different limbs, then twice them and the four squares. */
    movq    (%rsi), %rdx
    movq    8(%rsi), %rcx
    mulxq   %rcx, %r9, %r10
    mulxq   16(%rsi), %rax, %r11
    mulxq   24(%rsi), %rbx, %r12
    addq    %rax, %r10
    adcq    %rbx, %r11
    adcq    $0, %r12
    movq    %rcx, %rdx
    xorl    %r13d, %r13d
    mulxq   16(%rsi), %rax, %rbx
    adcxq   %rax, %r11
    adoxq   %rbx, %r12
    mulxq   24(%rsi), %rax, %rbx
    adcxq   %rax, %r12
    adoxq   %rbx, %r13
    movl    $0, %eax
    adcxq   %rax, %r13
    movq    16(%rsi), %rdx
    mulxq   24(%rsi), %rax, %r14
    addq    %rax, %r13
    adcq    $0, %r14
    movq    (%rsi), %rdx
    xorl    %r15d, %r15d
    mulxq   %rdx, %r8, %rax
    adcxq   %r9, %r9
    adoxq   %rax, %r9
    movq    %rcx, %rdx
    mulxq   %rdx, %rax, %rbx
    adcxq   %r10, %r10
    adoxq   %rax, %r10
    adcxq   %r11, %r11
    adoxq   %rbx, %r11
    movq    16(%rsi), %rdx
    mulxq   %rdx, %rax, %rbx
    adcxq   %r12, %r12
    adoxq   %rax, %r12
    adcxq   %r13, %r13
    adoxq   %rbx, %r13
    movq    24(%rsi), %rdx
    mulxq   %rdx, %rax, %rbx
    adcxq   %r14, %r14
    adoxq   %rax, %r14
    adcxq   %r15, %r15
    adoxq   %rbx, %r15
    REDUCE_AND_STORE
    RESTORE
    ret
    .cfi_endproc
    .size   sm2_fe_sqr_adx, .-sm2_fe_sqr_adx

/* \c0, \c1, \c2 += a[i] b[j], one product of a column; a at rsi, b at rcx. */
.macro ADD_PRODUCT i, j, c0, c1, c2
    movq    8*\i(%rsi), %rax
    mulq    8*\j(%rcx)
    addq    %rax, \c0
    adcq    %rdx, \c1
    adcq    $0, \c2
.endm

    .globl  sm2_fe_mul_x86
    .hidden sm2_fe_mul_x86
    .type   sm2_fe_mul_x86, @function
    .p2align 5
sm2_fe_mul_x86:
    .cfi_startproc
    SAVE
    movq    %rdx, %rcx
    xorl    %r10d, %r10d
    xorl    %r11d, %r11d
    xorl    %r12d, %r12d
    xorl    %r13d, %r13d
    xorl    %r14d, %r14d
    movq    (%rsi), %rax
    mulq    (%rcx)
    movq    %rax, %r8
    movq    %rdx, %r9
    ADD_PRODUCT 0, 1, %r9, %r10, %r11
    ADD_PRODUCT 1, 0, %r9, %r10, %r11
    ADD_PRODUCT 0, 2, %r10, %r11, %r12
    ADD_PRODUCT 1, 1, %r10, %r11, %r12
    ADD_PRODUCT 2, 0, %r10, %r11, %r12
    ADD_PRODUCT 0, 3, %r11, %r12, %r13
    ADD_PRODUCT 1, 2, %r11, %r12, %r13
    ADD_PRODUCT 2, 1, %r11, %r12, %r13
    ADD_PRODUCT 3, 0, %r11, %r12, %r13
    ADD_PRODUCT 1, 3, %r12, %r13, %r14
    ADD_PRODUCT 2, 2, %r12, %r13, %r14
    ADD_PRODUCT 3, 1, %r12, %r13, %r14
    xorl    %r15d, %r15d
    ADD_PRODUCT 2, 3, %r13, %r14, %r15
    ADD_PRODUCT 3, 2, %r13, %r14, %r15
    movq    24(%rsi), %rax
    mulq    24(%rcx)
    addq    %rax, %r14
    adcq    %rdx, %r15
    REDUCE_AND_STORE
    RESTORE
    ret
    .cfi_endproc
    .size   sm2_fe_mul_x86, .-sm2_fe_mul_x86

    .globl  sm2_fe_sqr_x86
    .hidden sm2_fe_sqr_x86
    .type   sm2_fe_sqr_x86, @function
    .p2align 5
sm2_fe_sqr_x86:
    .cfi_startproc
    SAVE
    movq    %rsi, %rcx
    /* The six products of different limbs, then twice them and the four squares. */
    xorl    %r11d, %r11d
    xorl    %r12d, %r12d
    xorl    %r13d, %r13d
    xorl    %r14d, %r14d
    movq    (%rsi), %rax
    mulq    8(%rsi)
    movq    %rax, %r9
    movq    %rdx, %r10
    movq    (%rsi), %rax
    mulq    16(%rsi)
    addq    %rax, %r10
    adcq    %rdx, %r11
    ADD_PRODUCT 0, 3, %r11, %r12, %r13
    ADD_PRODUCT 1, 2, %r11, %r12, %r13
    ADD_PRODUCT 1, 3, %r12, %r13, %r14
    movq    16(%rsi), %rax
    mulq    24(%rsi)
    addq    %rax, %r13
    adcq    %rdx, %r14
    xorl    %r15d, %r15d
    addq    %r9, %r9
    adcq    %r10, %r10
    adcq    %r11, %r11
    adcq    %r12, %r12
    adcq    %r13, %r13
    adcq    %r14, %r14
    adcq    $0, %r15
    movq    (%rsi), %rax
    mulq    %rax
    movq    %rax, %r8
    movq    %rdx, %rbx
    movq    8(%rsi), %rax
    mulq    %rax
    addq    %rbx, %r9
    adcq    %rax, %r10
    adcq    %rdx, %r11
    sbbq    %rbx, %rbx /* keeps the carry over the multiplication */
    movq    16(%rsi), %rax
    mulq    %rax
    addq    %rbx, %rbx
    adcq    %rax, %r12
    adcq    %rdx, %r13
    sbbq    %rbx, %rbx
    movq    24(%rsi), %rax
    mulq    %rax
    addq    %rbx, %rbx
    adcq    %rax, %r14
    adcq    %rdx, %r15
    REDUCE_AND_STORE
    RESTORE
    ret
    .cfi_endproc
    .size   sm2_fe_sqr_x86, .-sm2_fe_sqr_x86

#endif

    .section .note.GNU-stack, "", @progbits
