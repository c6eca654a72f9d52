// Stays until it has been pinged as often as it was told, asks the server what that has heard, and
// goes; or, mute, answers no pings and waits for the end. Prints what it has heard as JSON. The
// server may be slower: it is asked again, at `/asks` until it was pinged thrice, at `/after` until
// another client has ended.
//
//   node client.js URL answers|mute PINGS
'use strict';

const WebSocket = require('ws');

const [url, kind, times] = process.argv.slice(2);
const isEnough = (server) => {
  if (url.endsWith('/asks')) return server.pings >= 3;
  return !url.endsWith('/after') || server.ended !== null;
};
const heard = { pings: 0, pongs: [], server: null, code: null };
const socket = new WebSocket(url, { autoPong: kind !== 'mute' });
socket.on('open', () => url.includes('asks') && socket.ping('of the client'));
socket.on('ping', () => {
  heard.pings += 1;
  if (heard.pings >= Number(times)) socket.send('what have you heard?');
});
socket.on('pong', (payload) => heard.pongs.push(payload.toString()));
socket.on('message', (text) => {
  heard.server = JSON.parse(text);
  if (isEnough(heard.server)) socket.close(1000);
});
socket.on('error', () => {});
socket.on('close', (code) => console.log(JSON.stringify({ ...heard, code })));
