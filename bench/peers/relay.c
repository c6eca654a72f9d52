// The least that a proxy can do: accept, connect to the backend, read, write.
//
// One thread, edge-triggered epoll, one 64 KiB scratch buffer, TCP_NODELAY, nothing parsed and
// nothing counted. What a proxy costs more than this is its own doing; what this costs is the
// kernel's.
//
//   relay BACKEND_PORT      prints the port that it listens on, then serves until it is killed
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SCRATCH_BYTES = 64 * 1024, EVENTS_MAX = 512, BACKLOG = 4096 };

// One side of a tunnel. What its socket did not take waits here, and the other side is not read
// until it is gone.
struct side {
    int fd;
    struct side *other;
    char *unsent;
    size_t unsent_bytes, unsent_start;
    int has_ended;  // Its end of file was read and passed on.
    struct side *next_dead;
    int is_dead;
};

static char scratch[SCRATCH_BYTES];
static int poller;
static struct sockaddr_in backend;
// Freed at the end of a turn: later events of the same turn may still point here.
static struct side *dead;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void end(struct side *side) {
    if (side->is_dead) return;
    struct side *both[2] = {side, side->other};
    for (int i = 0; i < 2; i++) {
        close(both[i]->fd);
        both[i]->is_dead = 1;
        both[i]->next_dead = dead;
        dead = both[i];
    }
}

static void bury(void) {
    while (dead) {
        struct side *side = dead;
        dead = side->next_dead;
        free(side->unsent);
        free(side);
    }
}

// Writes what it can and keeps the rest; -1 if the connection is over.
static int send_or_keep(struct side *to, const char *bytes, size_t count) {
    ssize_t sent = send(to->fd, bytes, count, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) return -1;
        sent = 0;
    }
    if ((size_t)sent == count) return 0;
    to->unsent = malloc(count - sent);
    if (!to->unsent) return -1;
    memcpy(to->unsent, bytes + sent, count - sent);
    to->unsent_bytes = count - sent;
    to->unsent_start = 0;
    return 0;
}

// Reads one side until it is empty. A short read says so too and saves a read that would block,
// unless an end of file may be behind it: no further edge would tell of that.
static void relay(struct side *from, int may_end) {
    struct side *to = from->other;
    while (!from->is_dead && !from->has_ended && !to->unsent) {
        ssize_t count = recv(from->fd, scratch, SCRATCH_BYTES, 0);
        if (count < 0) {
            if (errno != EAGAIN && errno != ENOTCONN) end(from);
            return;
        }
        if (count == 0) {
            from->has_ended = 1;
            if (to->has_ended) end(from);
            else shutdown(to->fd, SHUT_WR);
            return;
        }
        if (send_or_keep(to, scratch, count) < 0) return end(from);
        if (count < SCRATCH_BYTES && !may_end) return;
    }
}

static void flush(struct side *to) {
    while (to->unsent_bytes > 0) {
        ssize_t sent = send(to->fd, to->unsent + to->unsent_start, to->unsent_bytes, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) end(to);
            return;
        }
        to->unsent_start += sent;
        to->unsent_bytes -= sent;
    }
    free(to->unsent);
    to->unsent = NULL;
    relay(to->other, 1);
}

static void watch(struct side *side) {
    uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    struct epoll_event event = {.events = events, .data.ptr = side};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, side->fd, &event) < 0) die("epoll_ctl");
}

static void accept_all(int listener) {
    for (;;) {
        int client_fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (client_fd < 0) return;
        int server_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (server_fd < 0) {
            close(client_fd);
            continue;
        }
        int on = 1;
        setsockopt(client_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(server_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct side *client = calloc(1, sizeof *client), *server = calloc(1, sizeof *server);
        if (!client || !server) die("calloc");
        *client = (struct side){.fd = client_fd, .other = server};
        *server = (struct side){.fd = server_fd, .other = client};
        int connected = connect(server_fd, (struct sockaddr *)&backend, sizeof backend);
        if (connected < 0 && errno != EINPROGRESS) {
            end(client);
            continue;
        }
        watch(server);
        watch(client);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: relay BACKEND_PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    backend = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    backend.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) < 0) die("bind");
    if (listen(listener, BACKLOG) < 0) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0) die("epoll_ctl");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    static struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            struct side *side = events[i].data.ptr;
            if (!side) {
                accept_all(listener);
                continue;
            }
            if (side->is_dead) continue;
            if (events[i].events & (EPOLLERR | EPOLLHUP) && !(events[i].events & EPOLLIN)) {
                end(side);
                continue;
            }
            if (events[i].events & EPOLLOUT && side->unsent) flush(side);
            if (!side->is_dead && events[i].events & (EPOLLIN | EPOLLRDHUP)) {
                relay(side, events[i].events & EPOLLRDHUP);
            }
        }
        bury();
    }
}
