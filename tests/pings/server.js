// Says what it has heard whenever a message comes. With MUTE it answers no pings.
'use strict';

const { WebSocketServer } = require('ws');

const autoPong = !process.env.MUTE;
const server = new WebSocketServer({ port: process.env.PORT, host: '127.0.0.1', autoPong });
let ended = null;
server.on('connection', (socket, request) => {
  const heard = { pings: 0, pongs: [] };
  socket.on('ping', () => heard.pings++);
  socket.on('pong', (payload) => heard.pongs.push(payload.toString()));
  socket.on('close', (code) => (ended = code));
  socket.on('message', () => socket.send(JSON.stringify({ ...heard, ended })));
  if (request.url.includes('asks')) socket.ping('of the server');
});
