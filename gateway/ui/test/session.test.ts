import { describe, expect, it } from 'vitest';
import { Session, isSendable, type Storage } from '../src/api/session';

function storage(initial: Record<string, string> = {}): Storage & { readonly items: Map<string, string> } {
  const items = new Map(Object.entries(initial));
  return {
    items,
    getItem: (name) => items.get(name) ?? null,
    setItem: (name, value) => void items.set(name, value),
    removeItem: (name) => void items.delete(name),
  };
}

const KEY = 'ms_abc_secret';

describe('a session', () => {
  it('sends nothing until somebody signs in, and nothing after signing out', () => {
    const kept = storage();
    const session = new Session(kept);
    expect(session.headers()).toEqual({});
    session.signIn({ key: KEY, tenant: '' });
    expect(session.headers()).toEqual({ Authorization: `Bearer ${KEY}` });
    session.signOut();
    expect(session.headers()).toEqual({});
    expect([...kept.items.values()].join()).not.toContain(KEY);
    expect(session.needed).toBe(true);
  });

  it('names the tenant when there is a choice', () => {
    const session = new Session(storage());
    session.signIn({ key: KEY, tenant: 'shop' });
    expect(session.headers()['X-Scope-OrgID']).toBe('shop');
  });

  it('outlives a reload of the tab', () => {
    const kept = storage();
    new Session(kept).signIn({ key: KEY, tenant: 'shop' });
    expect(new Session(kept).headers()['Authorization']).toBe(`Bearer ${KEY}`);
  });

  it('keeps an access token in memory only, and renews it before it ends', async () => {
    const kept = storage();
    let now = 1_000_000;
    let renewals = 0;
    const renew = async () => ({ access_token: `at${++renewals}`, expires_in: 100 });
    const session = new Session(kept, renew, () => now);
    session.signInFor({ access_token: 'at0', expires_in: 100 }, 'shop');
    expect(session.headers()).toEqual({ Authorization: 'Bearer at0', 'X-Scope-OrgID': 'shop' });
    expect([...kept.items.values()]).toEqual(['shop']);
    now += 79_000;
    await session.fresh();
    expect(renewals).toBe(0);
    now += 1_000;
    await Promise.all([session.fresh(), session.fresh(), session.fresh()]);
    expect(renewals).toBe(1);
    expect(session.headers()).toEqual({ Authorization: 'Bearer at1', 'X-Scope-OrgID': 'shop' });
    expect(new Session(kept).signedIn).toBe(false);
    expect(new Session(kept).chosenTenant).toBe('shop');
  });

  it('renews by the refresh token that it was given last, which it keeps in memory only', async () => {
    const kept = storage();
    let now = 0;
    const used: string[] = [];
    const renew = async (token: string) => {
      used.push(token);
      return { access_token: `at${used.length}`, expires_in: 100, refresh_token: `rt${used.length}` };
    };
    const session = new Session(kept, renew, () => now);
    session.signInFor({ access_token: 'at0', expires_in: 100, refresh_token: 'rt0' }, '');
    for (const _ of [1, 2]) {
      now += 100_000;
      await session.fresh();
    }
    expect(used).toEqual(['rt0', 'rt1']);
    expect(session.headers()).toEqual({ Authorization: 'Bearer at2' });
    expect([...kept.items.values()]).toEqual([]);
    session.signIn({ key: KEY, tenant: '' });
    session.signInFor({ access_token: 'by cookie', expires_in: 100 }, '');
    now += 100_000;
    await session.fresh();
    expect(used).toEqual(['rt0', 'rt1', '']);
  });

  it('asks to sign in again when the session is over', async () => {
    let now = 0;
    const session = new Session(storage(), async () => null, () => now);
    session.signInFor({ access_token: 'at0', expires_in: 100 }, '');
    now += 100_000;
    await session.fresh();
    expect([session.signedIn, session.needed, session.why]).toEqual([false, true, 'Your session is over.']);
  });

  it('never renews a key', async () => {
    const session = new Session(storage(), async () => Promise.reject(new Error('asked')), () => 1e15);
    session.signIn({ key: KEY, tenant: '' });
    await session.fresh();
    expect(session.headers()).toEqual({ Authorization: `Bearer ${KEY}` });
  });

  it('takes nothing from a storage that makes no sense', () => {
    for (const text of ['{', '[]', '7', '{"key":7,"tenant":""}', '{"key":"a b","tenant":""}', '{"key":"a"}']) {
      expect(new Session(storage({ 'millstream.credentials': text })).signedIn).toBe(false);
    }
    expect(new Session(null).signedIn).toBe(false);
  });

  it('asks for a key when the server refuses the one that is sent, and not when it refuses an older one', () => {
    const session = new Session(storage());
    const before = session.headers();
    session.refused(before);
    expect([session.needed, session.why]).toEqual([true, '']);
    session.signIn({ key: KEY, tenant: '' });
    session.refused(before);
    expect(session.needed).toBe(false);
    session.refused(session.headers());
    expect(session.needed).toBe(true);
    expect(session.why).not.toBe('');
  });

  it('tells its listeners until they leave', () => {
    const session = new Session(storage());
    let calls = 0;
    const leave = session.subscribe(() => (calls += 1));
    session.signIn({ key: KEY, tenant: '' });
    leave();
    session.signOut();
    expect(calls).toBe(1);
  });

  it('knows what a header cannot carry', () => {
    expect(isSendable(KEY)).toBe(true);
    for (const text of ['', 'a b', 'a\nb', 'é', 'a\u0000']) expect(isSendable(text)).toBe(false);
  });
});
