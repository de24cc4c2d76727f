// Serves the example page, and passes its requests on to a node with the node's token, which the page never sees:
//   node examples/serve.mjs http://127.0.0.1:4700 path/to/data/http-token
// A node answers pages of its own origin alone; this is how a server of yours stands between.

import { readFile } from 'node:fs/promises';
import { createServer, request as ask } from 'node:http';
import { pathToFileURL } from 'node:url';

const HERE = new URL('.', import.meta.url);
const FILES = new Map([['/', ['price.html', 'text/html']]]);
for (const name of ['index', 'client', 'error', 'event', 'filter', 'follow', 'sse', 'openapi']) {
  FILES.set(`/client/${name}.js`, [`../dist/${name}.js`, 'text/javascript']);
}

/** @param {string} node Its address. @param {string} token */
export function serve(node, token) {
  return createServer(async (request, response) => {
    const file = FILES.get(request.url ?? '');
    if (file) {
      response.writeHead(200, { 'content-type': file[1] });
      response.end(await readFile(new URL(file[0], HERE)));
      return;
    }
    // Another site's page must not write with our token; the node can't see it, since it sees us.
    const own = `http://${request.headers.host}`;
    if (!request.url?.startsWith('/api/v1/') || (request.headers.origin ?? own) !== own || !/^(127\.0\.0\.1|localhost):\d+$/.test(request.headers.host ?? '')) {
      response.writeHead(403).end();
      return;
    }
    const { host, origin, cookie, connection, ...headers } = request.headers;
    const passed = ask(new URL(request.url, node), { method: request.method, headers: { ...headers, authorization: `Bearer ${token}` } }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    passed.on('error', () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    response.on('close', () => passed.destroy());
    request.pipe(passed);
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [node, tokenFile] = process.argv.slice(2);
  if (!node || !tokenFile) {
    console.error('usage: node serve.mjs ADDRESS_OF_THE_NODE PATH_OF_HTTP_TOKEN');
    process.exit(2);
  }
  const server = serve(node, (await readFile(tokenFile, 'utf8')).trim());
  server.listen(8080, '127.0.0.1', () => console.log('http://127.0.0.1:8080/'));
}
