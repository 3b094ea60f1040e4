/* A disk that keeps what was synced and nothing else, for a process that is started with this in
 * LD_PRELOAD. Each time a file below a folder called "journal" is synced, its content is copied to
 * "<file>.kept"; each time such a folder is synced, the names in it are written to
 * "<folder>/names.kept". sync_file_range(2) promises nothing for a power cut, and is let through.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    abort();
}

static void keep_file(const char *path) {
    char kept[PATH_MAX + 8], fresh[PATH_MAX + 8], bytes[1 << 16];
    snprintf(kept, sizeof kept, "%s.kept", path);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    int from = open(path, O_RDONLY);
    int to = open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (from < 0 || to < 0) fail(path);
    ssize_t n;
    while ((n = read(from, bytes, sizeof bytes)) > 0)
        if (write(to, bytes, (size_t)n) != n) fail(fresh);
    close(from);
    close(to);
    if (n < 0 || rename(fresh, kept) != 0) fail(kept);
}

static void keep_names(const char *path) {
    char kept[PATH_MAX + 16];
    snprintf(kept, sizeof kept, "%s/names.kept", path);
    DIR *folder = opendir(path);
    FILE *names = fopen(kept, "w");
    if (!folder || !names) fail(kept);
    for (struct dirent *entry; (entry = readdir(folder));) fprintf(names, "%s\n", entry->d_name);
    fclose(names);
    closedir(folder);
}

static void keep(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    /* What is kept here is no file of the store's. */
    if (length > 5 && strcmp(path + length - 5, ".kept") == 0) return;
    struct stat what;
    if (!strstr(path, "/journal") || fstat(fd, &what) != 0) return;
    if (S_ISREG(what.st_mode)) keep_file(path);
    if (S_ISDIR(what.st_mode)) keep_names(path);
}

static int sync_and_keep(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    if (result == 0) keep(fd);
    return result;
}

int fsync(int fd) { return sync_and_keep("fsync", fd); }
int fdatasync(int fd) { return sync_and_keep("fdatasync", fd); }
