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
