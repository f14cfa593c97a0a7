/* clock_shift.c - a wall clock that jumps while a program runs, for tests/integration/clock.sh.
 *
 * Loaded with LD_PRELOAD. CLOCK_REALTIME is shifted by the milliseconds that the file named by
 * AMI_TEST_CLOCK holds at that moment; without such a file it is the system's. Other clocks stay.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long shift_ms(void)
{
    char text[32] = "";
    const char *path = getenv("AMI_TEST_CLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    return size > 0 ? strtoll(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    int result = (int)syscall(SYS_clock_gettime, clock, t);
    if (result == 0 && clock == CLOCK_REALTIME) {
        long long ms = shift_ms();
        t->tv_sec += (time_t)(ms / 1000);
        t->tv_nsec += (long)(ms % 1000) * 1000000L;
        if (t->tv_nsec < 0) {
            t->tv_nsec += 1000000000L;
            t->tv_sec--;
        } else if (t->tv_nsec >= 1000000000L) {
            t->tv_nsec -= 1000000000L;
            t->tv_sec++;
        }
    }
    return result;
}
