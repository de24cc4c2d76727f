/* Preloaded into a process: lets one flush fail, as a disk that reports an error once does.
 *
 * While the file that STORAGE_FAIL names exists, the next fsync or fdatasync of a file whose path contains
 * STORAGE_MATCH writes nothing, removes the flag file, and returns EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *flag = getenv("STORAGE_FAIL"), *match = getenv("STORAGE_MATCH");
    char link[64], path[4096];
    if (!flag || !match || access(flag, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, match) && unlink(flag) == 0;
}

static int flush(const char *name, int fd) {
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return flush("fsync", fd); }
int fdatasync(int fd) { return flush("fdatasync", fd); }
