// The least that N sockets can cost: floor APPS EVENTS BYTES SENDER_CORE READER_CORE (cores -1: wherever).
// One process sends EVENTS times BYTES by send(2) over loopback TCP, to one socket after another; a child reads.
// Prints the sender's CPU in microseconds per send, and sends per second.
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void need(int good, const char *what) {
    if (!good) {
        perror(what);
        _exit(1);
    }
}

static void pin(int core) {
    if (core < 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    need(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void receive_all(const int *sockets, int apps, uint64_t wanted, int told) {
    int epoll = epoll_create1(0);
    struct epoll_event events[256];
    char data[65536];
    uint64_t got = 0;
    for (int i = 0; i < apps; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = sockets[i]};
        need(epoll_ctl(epoll, EPOLL_CTL_ADD, sockets[i], &event) == 0, "epoll_ctl");
    }
    while (got < wanted) {
        int ready = epoll_wait(epoll, events, 256, 10000);
        need(ready > 0, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            ssize_t size = recv(events[i].data.fd, data, sizeof data, 0);
            need(size > 0, "recv");
            got += (uint64_t)size;
        }
    }
    need(write(told, "!", 1) == 1, "write");
}

int main(int count, char **words) {
    if (count != 6) return 2;
    int apps = atoi(words[1]), events = atoi(words[2]), bytes = atoi(words[3]);
    int sender = atoi(words[4]), reader = atoi(words[5]);
    int *ours = calloc((size_t)apps, sizeof(int)), *theirs = calloc((size_t)apps, sizeof(int));
    char *frame = calloc(1, (size_t)bytes);
    need(ours != NULL && theirs != NULL && frame != NULL, "calloc");
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof here;
    int listening = socket(AF_INET, SOCK_STREAM, 0), one = 1, told[2];
    need(bind(listening, (struct sockaddr *)&here, sizeof here) == 0, "bind");
    need(listen(listening, 16) == 0 && pipe(told) == 0, "listen");
    need(getsockname(listening, (struct sockaddr *)&here, &length) == 0, "getsockname");
    for (int i = 0; i < apps; i++) {
        theirs[i] = socket(AF_INET, SOCK_STREAM, 0);
        need(connect(theirs[i], (struct sockaddr *)&here, sizeof here) == 0, "connect");
        ours[i] = accept(listening, NULL, NULL);
        need(ours[i] >= 0, "accept");
        setsockopt(ours[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
        pin(reader);
        receive_all(theirs, apps, (uint64_t)events * (uint64_t)bytes, told[1]);
        _exit(0);
    }
    pin(sender);
    char answer;
    int status;
    double began = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < events; i++) need(send(ours[i % apps], frame, (size_t)bytes, 0) == bytes, "send");
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    close(told[1]);
    int all = read(told[0], &answer, 1) == 1;
    double took = seconds(CLOCK_MONOTONIC) - began;
    waitpid(child, &status, 0);
    need(all && status == 0, "the reader");
    printf("%.3f %.1f\n", cpu / events * 1e6, events / took);
    return 0;
}
