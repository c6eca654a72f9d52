// Prints tokens of a login service: `node tokens.js PRIVATE_KEY COUNT`. Each is signed by ES256,
// for a user of its own, and holds what such tokens usually hold.
const crypto = require('node:crypto')
const fs = require('node:fs')

const [, , keyFile, count] = process.argv
const key = crypto.createPrivateKey(fs.readFileSync(keyFile))
const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url')
const now = Math.floor(Date.now() / 1000)
const head = encode({ alg: 'ES256', typ: 'JWT' })

const lines = []
for (let user = 0; user < Number(count); user++) {
  const claims = encode({
    iss: 'https://login.example.com',
    aud: 'chat',
    sub: `user-${user}`,
    role: 'member',
    jti: crypto.randomUUID(),
    iat: now,
    exp: now + 86400,
  })
  const signature = crypto.sign('sha256', Buffer.from(`${head}.${claims}`), {
    key,
    dsaEncoding: 'ieee-p1363',
  })
  lines.push(`${head}.${claims}.${signature.toString('base64url')}`)
}
console.log(lines.join('\n'))
