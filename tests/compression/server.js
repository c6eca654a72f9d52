// Says everything back, compressed if the client takes that.
'use strict';

const { WebSocketServer } = require('ws');

const perMessageDeflate = { threshold: 0 };
const server = new WebSocketServer({ host: '127.0.0.1', port: process.env.PORT, perMessageDeflate });

server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on('error', () => {});
});
