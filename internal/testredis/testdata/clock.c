// Sets the wall clock of the process that loads this (by LD_PRELOAD) ahead by the seconds that are in the file CLOCK_FILE at
// the time, in 20 digits. The monotonic clock stays as it is.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *ahead = "0";

__attribute__((constructor)) static void begin(void) {
	const char *path = getenv("CLOCK_FILE");
	int file = path ? open(path, O_RDONLY) : -1;
	void *page = file < 0 ? MAP_FAILED : mmap(NULL, 21, PROT_READ, MAP_SHARED, file, 0);
	if (page != MAP_FAILED) ahead = page;
	if (file >= 0) close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
	int failed = syscall(SYS_clock_gettime, clock, now);
	if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += atol(ahead);
	return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
	struct timespec t;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &t)) return -1;
	now->tv_sec = t.tv_sec;
	now->tv_usec = t.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now) {
	struct timespec t;
	if (clock_gettime(CLOCK_REALTIME, &t)) return -1;
	if (now) *now = t.tv_sec;
	return t.tv_sec;
}
