// Sends what its second argument says, hears it back, and prints what came of it as JSON.
//
//   node client.js URL compressible|random BYTES
'use strict';

const { randomBytes } = require('crypto');
const WebSocket = require('ws');

const [url, kind, bytes] = process.argv.slice(2);
const length = Number(bytes);
const message = kind === 'random' ? randomBytes(length) : Buffer.alloc(length, 'tidewire ');
const socket = new WebSocket(url, { perMessageDeflate: { threshold: 0 } });
const came = { extensions: null, heard: 0, isSame: true, code: null, reason: null };

socket.on('open', () => {
  came.extensions = socket.extensions;
  socket.send(message);
});
socket.on('message', (data) => {
  came.heard += 1;
  came.isSame = came.isSame && data.equals(message);
  if (came.heard < 3) socket.send(message);
  else socket.close(1000);
});
socket.on('close', (code, reason) => {
  console.log(JSON.stringify({ ...came, code, reason: reason.toString() }));
});
socket.on('error', () => {});
