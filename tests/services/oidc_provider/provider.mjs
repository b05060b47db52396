// A real OpenID provider (npm oidc-provider) with one client and the accounts that a test names.
//
//   node provider.mjs MODULES ACCOUNTS [CERTIFICATE KEY]
//
// Listens on a loopback port of its own choosing and writes its URL to standard output. It calls itself localhost, which
// to a browser is another site than 127.0.0.1. POST /client with {"redirect_uri"} registers the client; until then, and
// for everything else, it is the provider that answers. Anybody signs in under any name with any password: that is
// `devInteractions` of the package, a form for the name and one for consent.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { pathToFileURL } from 'node:url';

const [modules, accountsText, certificate, key] = process.argv.slice(2);
const resolved = createRequire(`${modules}/`).resolve('oidc-provider');
const { default: Provider } = await import(pathToFileURL(resolved).href);
const accounts = JSON.parse(accountsText);

let provider = null;
let issuer = '';

function make(redirectUri) {
  return new Provider(issuer, {
    clients: [
      {
        client_id: 'millstream-client',
        client_secret: 'a-secret-of-more-than-32-characters-indeed',
        redirect_uris: [redirectUri],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
      },
    ],
    claims: { openid: ['sub'], profile: ['name', 'groups', 'org'], email: ['email', 'email_verified'] },
    cookies: { keys: ['not a secret: this is a test'] },
    features: { devInteractions: { enabled: true } },
    pkce: { required: () => true },
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, ...accounts[id] }) }),
  });
}

function answer(request, response) {
  if (request.method === 'POST' && request.url === '/client') {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      provider = make(JSON.parse(body).redirect_uri);
      response.writeHead(204).end();
    });
  } else if (provider === null) {
    response.writeHead(503).end();
  } else {
    provider.callback()(request, response);
  }
}

const server =
  certificate === undefined
    ? http.createServer(answer)
    : https.createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, answer);
server.listen(0, '127.0.0.1', () => {
  issuer = `${certificate === undefined ? 'http' : 'https'}://localhost:${server.address().port}`;
  process.stdout.write(`${issuer}\n`);
});
