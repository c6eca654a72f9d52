// The service that knows the users: it checks passwords and hands out tokens. The edge checks the
// tokens; this service and its private key could be anybody's (an identity provider, your app).
// Node alone, no packages.
//
// Only the edge may reach it: it believes the headers that the edge sets.
'use strict';

const { createServer } = require('node:http');
const {
    createPrivateKey, randomBytes, randomUUID, scrypt, scryptSync, sign, timingSafeEqual,
} = require('node:crypto');
const { readFileSync } = require('node:fs');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { promisify } = require('node:util');

const PORT = Number(process.env.PORT ?? 4000);
const SITE = process.env.SITE ?? 'https://localhost:8443';
const ADMIN = process.env.ADMIN ?? 'http://127.0.0.1:9090';
const KEYS = process.env.KEYS ?? path.join(__dirname, '../keys');
const SESSION_SECONDS = Number(process.env.SESSION_SECONDS ?? 3600);
const TICKET_SECONDS = Number(process.env.TICKET_SECONDS ?? 60);
const FORM_BYTES_MAX = 4096;
const LOGINS_MAX = 16;

const key = createPrivateKey(readFileSync(path.join(KEYS, 'jwt.private.pem')));
const adminToken = readFileSync(path.join(KEYS, 'admin.token'), 'utf8').trim();

// Two people, so that there is something to say. A real service has a database here, and does not
// say the passwords on its front page.
const USERS = new Map([user('ann', 'sea'), user('bob', 'land')]);

function user(name, team) {
    const salt = randomBytes(16);
    return [name, { team, salt, hash: scryptSync(`${name}-password`, salt, 32) }];
}

// An unknown user costs as much as a wrong password, so that nobody learns who is one.
const NOBODY = user('nobody', '')[1];

// A JSON Web Token (RFC 7519), signed with ES256 (RFC 7518, section 3.4).
function token(name, expires) {
    const claims = {
        iss: SITE, aud: 'chat', sub: name, team: USERS.get(name)?.team,
        jti: randomUUID(), iat: seconds(), exp: expires,
    };
    const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const signed = `${part({ alg: 'ES256', typ: 'JWT' })}.${part(claims)}`;
    const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
    return `${signed}.${signature.toString('base64url')}`;
}

function seconds() {
    return Math.floor(Date.now() / 1000);
}

// The fields of a form; nothing when it is longer than a form can be.
async function form(request) {
    const chunks = [];
    let bytes = 0;
    for await (const chunk of request) {
        bytes += chunk.length;
        if (bytes > FORM_BYTES_MAX) return undefined;
        chunks.push(chunk);
    }
    return new URLSearchParams(Buffer.concat(chunks).toString());
}

async function logIn(request, response) {
    const fields = await form(request);
    if (!fields) return say(response, 413, 'the form is too long', { Connection: 'close' });
    const name = fields.get('user') ?? '';
    const right = await isPassword(name, fields.get('password') ?? '');
    if (right === undefined) {
        return say(response, 503, 'too many people log in just now', { 'Retry-After': '1' });
    }
    if (!right) return say(response, 401, 'wrong user or password');
    // What was issued in the second of a log-out is revoked with the rest.
    while (seconds() <= (loggedOut.get(name) ?? 0)) await sleep(100);
    const expires = seconds() + SESSION_SECONDS;
    response.writeHead(204, { 'Set-Cookie': cookie(token(name, expires), SESSION_SECONDS) }).end();
}

// A hash costs tens of milliseconds: on another thread, and for so many at once. A real service
// slows down who guesses, too.
let logins = 0;
async function isPassword(name, given) {
    if (logins === LOGINS_MAX) return undefined;
    logins += 1;
    try {
        const { salt, hash } = USERS.get(name) ?? NOBODY;
        const same = timingSafeEqual(hash, await promisify(scrypt)(given, salt, 32));
        return same && USERS.has(name);
    } finally {
        logins -= 1;
    }
}

// __Host-: no other host of the domain can have planted it, nor a page without TLS.
// HttpOnly: no script reads it. SameSite: another site's page does not send it along.
function cookie(value, age) {
    return `__Host-session=${value}; Path=/; Max-Age=${age}; HttpOnly; Secure; SameSite=Strict`;
}

// A token for a WebSocket, short, as a script has it in its hands. It does not outlive the session:
// who can read one cannot make it last.
function ticket(name, ends, response) {
    const expires = Math.min(seconds() + TICKET_SECONDS, Number(ends) || 0);
    json(response, { token: token(name, expires), expires });
}

// Ends the user's WebSockets, too: what was issued until now is not accepted any more.
const loggedOut = new Map();
async function logOut(name, response) {
    const clear = { 'Set-Cookie': cookie('', 0) };
    try {
        const revoked = await fetch(`${ADMIN}/revocations`, {
            method: 'POST',
            headers: { Authorization: `Bearer ${adminToken}`, 'Content-Type': 'application/json' },
            body: JSON.stringify({ subject: name, for: `${SESSION_SECONDS + 60}s` }),
            signal: AbortSignal.timeout(3000),
        });
        if (!revoked.ok) throw new Error(`the edge answers ${revoked.status}`);
        loggedOut.set(name, (await revoked.json()).at);
    } catch (error) {
        console.error(`not revoked: ${error.message}`);
        return say(response, 502, 'logged out here, but open connections may go on', clear);
    }
    response.writeHead(204, clear).end();
}

function say(response, status, text, headers) {
    response.writeHead(status, { ...TEXT, ...headers }).end(`${text}\n`);
}

function json(response, value) {
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
}

function file(name, type) {
    const body = readFileSync(path.join(__dirname, name));
    const headers = { 'Content-Type': `${type}; charset=utf-8`, 'Cache-Control': 'no-cache' };
    return (response) => response.writeHead(200, headers).end(body);
}

const TEXT = { 'Content-Type': 'text/plain; charset=utf-8' };
const FILES = new Map([
    ['/', file('index.html', 'text/html')],
    ['/chat.js', file('chat.js', 'text/javascript')],
    ['/style.css', file('style.css', 'text/css')],
]);
// Only the page's own files run, only its own host hears from it, nobody frames it.
const HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Security-Policy':
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; " +
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
};

async function answer(request, response) {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    const { method, url, headers } = request;
    // Else any page could log its visitors in, as somebody else, or out. Programs send no Origin.
    if (method === 'POST' && (headers.origin ?? SITE) !== SITE) {
        return say(response, 403, 'not from this site');
    }
    if (method === 'POST' && url === '/login') return logIn(request, response);
    if (method === 'GET' && FILES.has(url)) return FILES.get(url)(response);
    // The edge has checked who it is, and deleted what the client itself may have said.
    const name = headers['x-user'];
    if (name && USERS.has(name)) {
        const ends = headers['x-session-ends'];
        switch (`${method} ${url}`) {
            case 'GET /api/me':
                return json(response, { user: name, team: USERS.get(name).team });
            case 'GET /api/ticket':
                return ticket(name, ends, response);
            case 'POST /api/logout':
                return logOut(name, response);
        }
    }
    return say(response, 404, 'not found');
}

createServer((request, response) => {
    answer(request, response).catch((error) => {
        // Never the request: passwords and tokens are in it.
        console.error(error.message);
        if (!response.headersSent) response.writeHead(500, TEXT);
        response.end();
    });
}).listen(PORT, '127.0.0.1', function () {
    console.log(`login service on 127.0.0.1:${this.address().port}`);
});
