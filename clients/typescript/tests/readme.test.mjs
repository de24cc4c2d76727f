// The examples of README.md run as they stand there.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { onMock } from './helper.mjs';

test('read, write and follow, as the README says', onMock({}, async ({ mock, machine, url }) => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8');
  const blocks = [...readme.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code);
  assert.equal(blocks.length, 3);
  const folder = await mkdtemp(join(tmpdir(), 'readme-'));
  await writeFile(join(folder, 'token'), 'secret\n');
  const put = (text, from, to) => {
    assert.ok(text.includes(from), from);
    return text.replace(from, to);
  };
  let code = `let saved;\n${blocks.join('\n')}`;
  code = put(code, "'groundswell-client'", `'${new URL('../dist/index.js', import.meta.url)}'`);
  code = put(code, "'data/http-token'", JSON.stringify(join(folder, 'token')));
  code = put(code, 'http://127.0.0.1:4700/', `${url}/`);
  code = put(code, 'setTimeout(() => stop.abort(), 60_000);', 'setTimeout(() => stop.abort(), 60_000).unref();');
  await writeFile(join(folder, 'example.mjs'), code);
  const lines = [];
  const { log } = console;
  console.log = (...words) => lines.push(words.join(' '));
  // A stream that is followed hears of a price and of a deletion, and then ends.
  const ending = setInterval(() => {
    for (const stream of [...mock.streams]) {
      mock.put(machine, 'price/tea', '2.20');
      mock.delete(machine, 'price/tea', 'manager');
      stream.end('other');
      mock.streams.delete(stream);
    }
  }, 10);
  try {
    await import(pathToFileURL(join(folder, 'example.mjs')).href);
  } finally {
    clearInterval(ending);
    console.log = log;
    await rm(folder, { recursive: true });
  }
  assert.match(lines[0], /^1\.80 manager /);
  assert.ok(lines.includes('that is all; what follows is live'), lines.join('\n'));
  assert.ok(lines.includes('deleted by the manager'), lines.join('\n'));
  assert.ok(lines.includes('no more: other'), lines.join('\n'));
}));
