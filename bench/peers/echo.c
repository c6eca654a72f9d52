// The WebSocket echo server behind every proxy under test; it is not measured, and has to be
// cheaper than what is.
//
// One thread, edge-triggered epoll, one scratch buffer. An answer is made in place: a server's
// frame has no mask and so is shorter than the client's, and the payload is unmasked as it
// streams, whatever its length. It trusts its clients; do not use it for anything else.
//
//   echo      prints the port that it listens on, then serves until it is killed
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SCRATCH_BYTES = 64 * 1024,
    REQUEST_BYTES_MAX = 8 * 1024,
    HEADER_BYTES_MAX = 14,
    EVENTS_MAX = 512,
    BACKLOG = 4096,
    PING = 0x9,
    PONG = 0xA,
    CLOSE = 0x8,
};

struct conn {
    int fd;
    int is_upgraded, is_closing;
    char *request;  // Until its end has come.
    size_t request_bytes;
    // A frame header that a read has cut.
    unsigned char header[HEADER_BYTES_MAX];
    int header_bytes;
    uint64_t remaining;
    unsigned char mask[4];
    unsigned mask_at;
    unsigned opcode;
    char *unsent;
    size_t unsent_bytes, unsent_start;
};

static unsigned char scratch[HEADER_BYTES_MAX + SCRATCH_BYTES];
static int poller;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint32_t rotate(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

// SHA-1 (FIPS 180-4) of a short text: the accept key needs nothing else.
static void sha1(const char *text, unsigned char digest[20]) {
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    size_t length = strlen(text), padded = (length + 9 + 63) / 64 * 64;
    unsigned char message[256] = {0};
    if (padded > sizeof message) die("sha1: text too long");
    memcpy(message, text, length);
    message[length] = 0x80;
    for (int i = 0; i < 8; i++) message[padded - 1 - i] = (uint64_t)length * 8 >> 8 * i;
    for (size_t block = 0; block < padded; block += 64) {
        uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = message + block + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d)
                       : i < 40 ? b ^ c ^ d
                       : i < 60 ? (b & c) | (b & d) | (c & d)
                                : b ^ c ^ d;
            static const uint32_t k[4] = {0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6};
            uint32_t next = rotate(a, 5) + f + e + k[i / 20] + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = state[i / 4] >> 8 * (3 - i % 4);
}

static void base64(const unsigned char *bytes, int count, char *text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < count; i += 3) {
        uint32_t group = bytes[i] << 16;
        if (i + 1 < count) group |= bytes[i + 1] << 8;
        if (i + 2 < count) group |= bytes[i + 2];
        *text++ = digits[group >> 18];
        *text++ = digits[group >> 12 & 63];
        *text++ = i + 1 < count ? digits[group >> 6 & 63] : '=';
        *text++ = i + 2 < count ? digits[group & 63] : '=';
    }
    *text = 0;
}

static void end(struct conn *conn) {
    close(conn->fd);
    free(conn->request);
    free(conn->unsent);
    free(conn);
}

// Writes what it can and keeps the rest; -1 if the connection is over.
static int send_or_keep(struct conn *conn, const void *bytes, size_t count) {
    ssize_t sent = count ? send(conn->fd, bytes, count, MSG_NOSIGNAL) : 0;
    if (sent < 0) {
        if (errno != EAGAIN) return -1;
        sent = 0;
    }
    if ((size_t)sent == count) return 0;
    conn->unsent = malloc(count - sent);
    if (!conn->unsent) return -1;
    memcpy(conn->unsent, (const char *)bytes + sent, count - sent);
    conn->unsent_bytes = count - sent;
    conn->unsent_start = 0;
    return 0;
}

// The length of the frame header at `bytes`, or 0 if it is not whole.
static int parse_header(struct conn *conn, const unsigned char *bytes, size_t count) {
    if (count < 2) return 0;
    unsigned short_length = bytes[1] & 0x7F;
    int extended = short_length == 126 ? 2 : short_length == 127 ? 8 : 0;
    if (count < 2u + extended + 4) return 0;
    uint64_t length = extended ? 0 : short_length;
    for (int i = 0; i < extended; i++) length = length << 8 | bytes[2 + i];
    memcpy(conn->mask, bytes + 2 + extended, 4);
    conn->mask_at = 0;
    conn->remaining = length;
    conn->opcode = bytes[0] & 0xF;
    return 2 + extended + 4;
}

static void unmask(struct conn *conn, unsigned char *to, const unsigned char *from, size_t count) {
    unsigned char key[8];
    for (int i = 0; i < 8; i++) key[i] = conn->mask[(conn->mask_at + i) & 3];
    uint64_t wide_key, word;
    memcpy(&wide_key, key, 8);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= wide_key;
        memcpy(to + i, &word, 8);
    }
    for (; i < count; i++) to[i] = from[i] ^ key[i & 7];
    conn->mask_at += count;
}

// Turns what came into its echo, in place; returns how long that is.
static size_t answer(struct conn *conn, unsigned char *bytes, size_t count) {
    unsigned char *in = bytes, *end = bytes + count, *out = bytes;
    while (in < end) {
        if (conn->remaining == 0) {
            int header = parse_header(conn, in, end - in);
            if (header == 0) {
                conn->header_bytes = end - in;
                memcpy(conn->header, in, conn->header_bytes);
                break;
            }
            unsigned char first = in[0];
            if (conn->opcode == PING) first = (first & 0xF0) | PONG;
            if (conn->opcode == CLOSE) conn->is_closing = 1;
            // Moving backwards only: `out` never passes `in`.
            unsigned char length = in[1] & 0x7F;
            memmove(out + 2, in + 2, header - 6);
            out[0] = first;
            out[1] = length;
            out += header - 4;
            in += header;
        }
        size_t payload = end - in;
        if (payload > conn->remaining) payload = conn->remaining;
        unmask(conn, out, in, payload);
        out += payload;
        in += payload;
        conn->remaining -= payload;
    }
    return out - bytes;
}

// Answers the upgrade once it is whole: 1 if so, 0 if not yet, -1 if it is none.
static int upgrade(struct conn *conn, const unsigned char *bytes, size_t count) {
    if (conn->request_bytes + count > REQUEST_BYTES_MAX) return -1;
    if (!conn->request) conn->request = malloc(REQUEST_BYTES_MAX + 1);
    if (!conn->request) return -1;
    memcpy(conn->request + conn->request_bytes, bytes, count);
    conn->request_bytes += count;
    conn->request[conn->request_bytes] = 0;
    char *end = strstr(conn->request, "\r\n\r\n");
    if (!end) return 0;
    static const char name[] = "\nsec-websocket-key:";
    char *key = strcasestr(conn->request, name);
    if (!key || end[4]) return -1;  // A client waits for the 101 before it speaks.
    key += sizeof name - 1;
    key += strspn(key, " \t");
    char joined[128], accept[32], response[256];
    unsigned char digest[20];
    snprintf(joined, sizeof joined, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
             (int)strcspn(key, " \t\r\n"), key);
    sha1(joined, digest);
    base64(digest, 20, accept);
    int length = snprintf(response, sizeof response,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    free(conn->request);
    conn->request = NULL;
    conn->is_upgraded = 1;
    return send_or_keep(conn, response, length) < 0 ? -1 : 1;
}

// Reads until the socket is empty. A short read says so too and saves a read that would block,
// unless an end of file may be behind it. Returns -1 if the connection is over.
static int serve(struct conn *conn, int may_end) {
    while (!conn->unsent) {
        unsigned char *bytes = scratch + HEADER_BYTES_MAX;
        ssize_t count = recv(conn->fd, bytes, SCRATCH_BYTES, 0);
        if (count < 0) return errno == EAGAIN ? 0 : -1;
        if (count == 0) return -1;
        int was_short = count < SCRATCH_BYTES;
        if (!conn->is_upgraded) {
            if (upgrade(conn, bytes, count) < 0) return -1;
        } else {
            bytes -= conn->header_bytes;
            memcpy(bytes, conn->header, conn->header_bytes);
            count += conn->header_bytes;
            conn->header_bytes = 0;
            if (send_or_keep(conn, bytes, answer(conn, bytes, count)) < 0) return -1;
            if (conn->is_closing && conn->remaining == 0 && !conn->unsent) return -1;
        }
        if (was_short && !may_end) return 0;
    }
    return 0;
}

static int flush(struct conn *conn) {
    while (conn->unsent_bytes > 0) {
        const char *bytes = conn->unsent + conn->unsent_start;
        ssize_t sent = send(conn->fd, bytes, conn->unsent_bytes, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN ? 0 : -1;
        conn->unsent_start += sent;
        conn->unsent_bytes -= sent;
    }
    free(conn->unsent);
    conn->unsent = NULL;
    if (conn->is_closing) return -1;
    return serve(conn, 1);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0) return;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *conn = calloc(1, sizeof *conn);
        if (!conn) die("calloc");
        conn->fd = fd;
        uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        struct epoll_event event = {.events = events, .data.ptr = conn};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
    }
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

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
            struct conn *conn = events[i].data.ptr;
            if (!conn) {
                accept_all(listener);
                continue;
            }
            // One descriptor gives one event a turn, so `conn` cannot have ended before it.
            int result = 0;
            if (events[i].events & EPOLLOUT && conn->unsent) result = flush(conn);
            if (result == 0 && events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) {
                result = serve(conn, events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
            }
            if (result < 0) end(conn);
        }
    }
}
