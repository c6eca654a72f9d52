'use strict';

const part = (id) => document.getElementById(id);
let socket;

async function show() {
    const me = await fetch('/api/me');
    part('login').hidden = me.ok;
    part('chat').hidden = part('who').hidden = !me.ok;
    if (!me.ok) return;
    const { user, team } = await me.json();
    part('user').textContent = user;
    part('team').textContent = team;
}

// A browser sends the cookie of the page with the handshake by itself. That another site's page
// cannot do the same is what the edge's check of the Origin is for.
function byCookie() {
    connect(['tidewire.v1']);
}

// A page without a cookie (an app, another host) has one header that it can set for a WebSocket:
// the list of subprotocols. The edge answers the one that is no token.
async function byToken() {
    tell('connecting', 'Asking for a token.');
    const ticket = await newTicket();
    if (ticket) connect(['tidewire.v1', 'bearer', ticket.token]);
    else tell('ended', 'There is no token to be had.');
}

async function newTicket() {
    const answer = await fetch('/api/ticket');
    if (answer.ok) return answer.json();
    if (answer.status === 401) await show();
    return undefined;
}

function connect(protocols) {
    socket?.close(1000);
    part('error').textContent = '';
    const room = part('room').value;
    const own = new WebSocket(`wss://${location.host}/ws/${room}`, protocols);
    let opened = false;
    socket = own;
    tell('connecting', `Connecting to ${room}.`);
    own.onclose = async ({ code, reason }) => {
        if (own !== socket) return;
        const why = ended(opened, code, reason);
        tell('ended', why);
        // Whose session has ended sees the form again, and why.
        await show();
        if (part('chat').hidden) part('error').textContent = why;
        // A ticket has ended, and the session has not: there are more.
        else if (opened && code === 3000) byToken();
    };
    own.onmessage = ({ data }) => {
        const told = JSON.parse(data);
        if (told.type === 'hello') {
            opened = true;
            tell('open', `In ${room}, on ${told.node}.`);
        }
        if (told.type === 'message') line(told.data, told.own ? 'own' : '');
        if (told.type === 'notice' && told.event !== 'expiring') line(told.detail, 'note');
    };
}

function ended(opened, code, reason) {
    // A browser does not tell a page the answer to its handshake.
    if (!opened) return 'Refused: no one gets in there without a right to (401 or 403).';
    const why = {
        1001: 'The server is restarted: connect again.',
        1009: 'The message was too big.',
        3000: 'The token has ended.',
        3003: 'Logged out.',
    }[code];
    return `${why ?? 'The connection is gone.'} (${`${code} ${reason}`.trim()})`;
}

function tell(state, text) {
    part('state').dataset.state = state;
    part('state').textContent = text;
    for (const control of part('say').elements) control.disabled = state !== 'open';
}

function line(text, kind) {
    const own = document.createElement('p');
    own.className = kind;
    own.textContent = text; // Never as HTML: it is somebody else's.
    part('messages').append(own);
    while (part('messages').childElementCount > 500) part('messages').firstChild.remove();
    part('messages').scrollTop = part('messages').scrollHeight;
}

part('login').onsubmit = async (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(event.target));
    const answer = await fetch('/login', { method: 'POST', body });
    part('error').textContent = answer.ok ? '' : await answer.text();
    if (!answer.ok) return;
    event.target.reset();
    await show();
};
part('say').onsubmit = (event) => {
    event.preventDefault();
    socket.send(event.target.text.value);
    event.target.reset();
};
part('too-long').onclick = () => socket.send('x'.repeat(20000));
part('by-cookie').onclick = byCookie;
part('by-token').onclick = byToken;
part('logout').onclick = async () => {
    const answer = await fetch('/api/logout', { method: 'POST' });
    part('error').textContent = answer.ok ? '' : await answer.text();
    await show();
};
show();
