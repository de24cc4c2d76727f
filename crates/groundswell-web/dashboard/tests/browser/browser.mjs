// A headless Chromium, driven by chromedriver over WebDriver: plain HTTP, so no package is needed.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.profile = await mkdtemp(join(tmpdir(), 'dashboard-'));
    const port = await freePort();
    browser.base = `http://127.0.0.1:${port}`;
    browser.driver = spawn('chromedriver', [`--port=${port}`, '--silent'], { stdio: 'ignore' });
    await until(async () => (await fetch(`${browser.base}/status`)).ok, 'chromedriver does not start');
    const options = { args: [...FLAGS, `--user-data-dir=${browser.profile}`, '--window-size=1400,1000'] };
    const made = await browser.send('POST', '/session', { capabilities: { alwaysMatch: { browserName: 'chrome', 'goog:chromeOptions': options, 'goog:loggingPrefs': { browser: 'ALL' } } } });
    browser.session = `/session/${made.sessionId}`;
    return browser;
  }

  async send(method, path, body) {
    const response = await fetch(this.base + path, { method, body: body && JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${path}: ${value.error}: ${value.message}`);
    return value;
  }

  open(url) {
    return this.send('POST', `${this.session}/url`, { url });
  }

  /** Runs the body of a function in the page; a promise is awaited. */
  run(script, ...args) {
    return this.send('POST', `${this.session}/execute/sync`, { script, args });
  }

  cdp(cmd, params = {}) {
    return this.send('POST', `${this.session}/goog/cdp/execute`, { cmd, params });
  }

  async size(width, height) {
    await this.cdp('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  }

  scheme(value) {
    return this.cdp('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value }] });
  }

  /** Keys go to what has the focus. */
  async keys(...keys) {
    const actions = keys.flatMap((value) => [{ type: 'keyDown', value }, { type: 'keyUp', value }]);
    await this.send('POST', `${this.session}/actions`, { actions: [{ type: 'key', id: 'keyboard', actions }] });
  }

  async click(css) {
    const found = await this.send('POST', `${this.session}/element`, { using: 'css selector', value: css });
    await this.send('POST', `${this.session}/element/${found[ELEMENT]}/click`, {});
  }

  async shot(path, whole = false) {
    const { data } = await this.cdp('Page.captureScreenshot', { format: 'png', captureBeyondViewport: whole });
    await writeFile(path, Buffer.from(data, 'base64'));
  }

  logs() {
    return this.send('POST', `${this.session}/se/log`, { type: 'browser' });
  }

  /** Waits until the expression holds in the page. */
  wait(expression, limit) {
    return until(() => this.run(`return (${expression})`), expression, limit);
  }

  async stop() {
    await this.send('DELETE', this.session).catch(() => {});
    this.driver.kill();
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Waits for a condition, with a generous limit. */
export async function until(holds, what, limit = 30_000) {
  const end = Date.now() + limit;
  for (;;) {
    const value = await Promise.resolve().then(holds).catch(() => false);
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20)); // The poll step of a wait.
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
