import { execFileSync } from 'node:child_process';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createEndpointServer, guardMetrics } from './endpoint-server.ts';
import { ScrapeAccess, type Verdict } from './scrape-access.ts';

/** Puts a new certificate into a directory. */
function certify(directory: string, name: string): void {
  const [key, cert] = [join(directory, 'new.key'), join(directory, 'new.crt')];
  const subject = ['-subj', `/CN=${name}`, '-days', '1', '-keyout', key, '-out', cert];
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  execFileSync('openssl', ['req', '-x509', ...newKey, ...subject], { stdio: 'ignore' });
  renameSync(key, join(directory, 'tls.key'));
  renameSync(cert, join(directory, 'tls.crt'));
}

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'weir-tls-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Common name of the certificate that a server shows. */
function shownName(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get({ port, host: '127.0.0.1', rejectUnauthorized: false, agent: false }, (response) => {
      const { subject } = (response.socket as TLSSocket).getPeerCertificate();
      response.resume();
      resolve(String(subject.CN));
    });
    request.on('error', reject);
  });
}

describe('the endpoints over HTTPS', () => {
  it('take up a certificate that changes, and keep it when the next cannot be used', async () => {
    const path = directory();
    certify(path, 'first');
    const reloads: (string | undefined)[] = [];
    const server = createEndpointServer(
      path,
      (_, response) => response.end('ok'),
      (problem) => reloads.push(problem),
    );
    onTestFinished(() => void server.close());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    expect(await shownName(port)).toBe('first');
    certify(path, 'second');
    await vi.waitFor(async () => expect(await shownName(port)).toBe('second'), 10_000);
    writeFileSync(join(path, 'tls.crt'), 'nonsense');
    await vi.waitFor(() => expect(reloads.at(-1)).toContain('cannot be used'), 10_000);
    expect(await shownName(port)).toBe('second');
  });

  it('do not begin without a certificate', () => {
    const path = directory();
    expect(() =>
      createEndpointServer(
        path,
        () => undefined,
        () => undefined,
      ),
    ).toThrow(`the certificate in ${path} cannot be used: ENOENT`);
  });
});

describe('the guard of the metrics', () => {
  const verdict = (status: Verdict['status']): Verdict => ({ status, message: `verdict ${status}` });

  it.each([200, 401, 403, 503] as const)('answers as it was judged: %d', async (status) => {
    const access = new ScrapeAccess(async () => verdict(status));
    const server = createEndpointServer(
      undefined,
      (request, response) => void guardMetrics(access, request, response, () => response.end('metrics')),
      () => undefined,
    );
    onTestFinished(() => void server.close());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
    const answer = await fetch(url, { headers: { authorization: 'Bearer token' } });
    expect(answer.status).toBe(status);
    expect(await answer.text()).toBe(status === 200 ? 'metrics' : `verdict ${status}\n`);
    expect(answer.headers.get('www-authenticate')).toBe(status === 401 ? 'Bearer' : null);
  });
});
