// A server whose `ws` is told to answer no pings.
'use strict';

process.env.MUTE = 'yes';
require('./server.js');
