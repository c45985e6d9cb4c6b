/* Loaded before libc: the machine's clock is wrong by as many seconds as the file CLOCK_FILE says,
 * which is read again every 10 ms. The monotonic clock is as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef int (*clock_function)(clockid_t, struct timespec *);

static long wrong_by(clock_function real) {
  static volatile long seconds, read_at;
  struct timespec now;
  real(CLOCK_MONOTONIC, &now);
  long ms = now.tv_sec * 1000 + now.tv_nsec / 1000000;
  if (ms - read_at >= 10) {
    read_at = ms;
    FILE *file = fopen(getenv("CLOCK_FILE"), "r");
    long found;
    if (file) {
      if (fscanf(file, "%ld", &found) == 1) seconds = found;
      fclose(file);
    }
  }
  return seconds;
}

int clock_gettime(clockid_t id, struct timespec *at) {
  static clock_function real;
  if (!real) real = (clock_function)dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(id, at);
  if (!code && id == CLOCK_REALTIME) at->tv_sec += wrong_by(real);
  return code;
}
