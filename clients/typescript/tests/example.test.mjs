// The example: its page is short, its parts are served, and its server lets no other site write.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { serve } from '../examples/serve.mjs';
import { Groundswell } from '../dist/index.js';
import { isCaughtUp, onMock, take } from './helper.mjs';

test('the page has fewer than 60 lines', async () => {
  assert.ok((await readFile(new URL('../examples/price.html', import.meta.url), 'utf8')).trimEnd().split('\n').length < 60);
});

test('it serves the page and its modules, passes requests and streams on, and refuses other origins', onMock({}, async ({ mock, machine, url }) => {
  const server = serve(url, 'secret').listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const here = `http://127.0.0.1:${server.address().port}`;
  try {
    const seen = new Set();
    const check = async (path) => {
      if (seen.has(path)) return;
      seen.add(path);
      const response = await fetch(here + path);
      assert.equal(response.status, 200, path);
      for (const [, name] of (await response.text()).matchAll(/from '(?:\/client|\.)\/([\w-]+\.js)'/g)) await check(`/client/${name}`);
    };
    await check('/');
    assert.ok(seen.size > 4);
    const node = new Groundswell({ url: here });
    await node.setKvValue(machine, 'price/tea', '1.80');
    const watch = node.watchKvKey(machine, 'price/tea');
    await take(watch, isCaughtUp);
    mock.put(machine, 'price/tea', '1.90');
    assert.equal((await take(watch, (event) => event.type === 'put'))[0].entry.value.text, '1.90');
    await watch.return();
    const foreign = await fetch(`${here}/api/v1/machines`, { headers: { origin: 'http://elsewhere.example' } });
    assert.equal(foreign.status, 403);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}));
