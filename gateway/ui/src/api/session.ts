// What the page shows to the server. A key lives in the tab's session storage: other tabs do not have it, and it is gone
// when the tab is. Who signed in at a provider has an access token, which stays in memory; what lasts is a cookie that no
// script can read, and that the server turns into the next access token. Who signed in by a password has a refresh token
// in memory for that, and so signs in again when the page was left.

export interface Credentials {
  readonly key: string;
  /** Empty when the key has one tenant, which goes without saying. */
  readonly tenant: string;
}

/** What a server that asks for keys says about their owner. */
export interface Me {
  readonly name: string;
  readonly verbs: readonly string[];
  readonly tenants: readonly string[];
}

/** What the server gives for the browser's cookie, for a password, or for a refresh token. */
export interface AccessToken {
  readonly access_token: string;
  /** Seconds. */
  readonly expires_in: number;
  /** Good once, for the next access token. A cookie stands in for it when it is absent. */
  readonly refresh_token?: string;
}

/** How somebody without a key may sign in. */
export interface Ways {
  readonly providers: readonly Provider[];
  /** Whether there are users with a password. */
  readonly passwords: boolean;
}

/** A way to sign in without a key. */
export interface Provider {
  readonly name: string;
  readonly login: string;
}

export type Storage = Pick<globalThis.Storage, 'getItem' | 'setItem' | 'removeItem'>;

const ITEM = 'millstream.credentials';
const TENANT_ITEM = 'millstream.tenant';
const LOCK = 'millstream.session';
/** A token is renewed when less than this part of its life is left. */
const RENEW_PART = 0.2;
const SENDABLE = /^[\x21-\x7e]+$/;

export class Session {
  private credentials: Credentials | null;
  private demanded = false;
  private reason = '';
  private readonly listeners = new Set<() => void>();
  /** When to renew, in the clock's milliseconds; 0 for a key, which lasts. */
  private renewAt = 0;
  private hasLeft = false;
  private renewing: Promise<void> | null = null;
  /** Empty for a key, and where a cookie does it. */
  private refreshToken = '';

  constructor(
    private readonly storage: Storage | null,
    private readonly renew: (refreshToken: string) => Promise<AccessToken | null> = renewBy,
    private readonly now: () => number = Date.now,
  ) {
    this.credentials = read(storage);
  }

  get signedIn(): boolean {
    return this.credentials !== null;
  }

  /** Whether somebody signed in by a password of this server. */
  get byPassword(): boolean {
    return this.refreshToken !== '';
  }

  /** Whether the server wants a key that the page does not have. */
  get needed(): boolean {
    return this.demanded;
  }

  /** Why the key that was there is not good any more; empty when there was none. */
  get why(): string {
    return this.reason;
  }

  headers(): Record<string, string> {
    return headersOf(this.credentials);
  }

  /** A request with these headers was answered 401. Answers to older credentials change nothing. */
  refused(headers: Record<string, string>): void {
    if (headers['Authorization'] !== this.headers()['Authorization']) return;
    const what = this.renewAt === 0 ? 'The server does not accept this key any more.' : 'Your session is over.';
    this.reason = this.credentials === null ? '' : what;
    this.demanded = true;
    this.set(null);
  }

  signIn(credentials: Credentials): void {
    this.demanded = false;
    this.reason = '';
    this.set(credentials);
  }

  /** Signs in by what a provider said. The token is never written down. */
  signInFor(token: AccessToken, tenant: string): void {
    this.demanded = false;
    this.reason = '';
    keep(this.storage, TENANT_ITEM, tenant);
    this.take(token, tenant);
    for (const listener of this.listeners) listener();
  }

  /** The tenant that was chosen in this tab before it was loaded again; empty when none was. */
  get chosenTenant(): string {
    try {
      return this.storage?.getItem(TENANT_ITEM) ?? '';
    } catch {
      return '';
    }
  }

  /** Makes sure that what `headers` gives is good for a while. */
  async fresh(): Promise<void> {
    if (this.renewAt === 0 || this.now() < this.renewAt) return;
    this.renewing ??= this.renewNow().finally(() => {
      this.renewing = null;
    });
    await this.renewing;
  }

  private async renewNow(): Promise<void> {
    const before = this.headers();
    const token = await this.renew(this.refreshToken);
    if (token === null) this.refused(before);
    else this.take(token, this.credentials?.tenant ?? '');
  }

  private take(token: AccessToken, tenant: string): void {
    this.credentials = { key: token.access_token, tenant };
    this.refreshToken = token.refresh_token ?? '';
    this.renewAt = this.now() + token.expires_in * 1000 * (1 - RENEW_PART);
  }

  /** Whether somebody signed out, who is not to be signed in again by a cookie that is on its way out. */
  get left(): boolean {
    return this.hasLeft;
  }

  signOut(): void {
    this.hasLeft = true;
    keep(this.storage, TENANT_ITEM, '');
    if (this.renewAt !== 0) endSession(this.refreshToken);
    this.demanded = true;
    this.reason = '';
    this.set(null);
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private set(credentials: Credentials | null): void {
    this.credentials = credentials;
    this.renewAt = 0;
    this.refreshToken = '';
    keep(this.storage, ITEM, credentials === null ? '' : JSON.stringify(credentials));
    for (const listener of this.listeners) listener();
  }
}

export function headersOf(credentials: Credentials | null): Record<string, string> {
  if (credentials === null) return {};
  const tenant: Record<string, string> = credentials.tenant === '' ? {} : { 'X-Scope-OrgID': credentials.tenant };
  return { Authorization: `Bearer ${credentials.key}`, ...tenant };
}

/** Whether a header can carry the text at all. */
export function isSendable(text: string): boolean {
  return SENDABLE.test(text);
}

/** Asks who a key belongs to. Throws an Error with a text for people when it is nobody's. */
export async function whoIs(credentials: Credentials): Promise<Me> {
  let response: Response;
  try {
    response = await fetch('v1/auth/me', { headers: { Accept: 'application/json', ...headersOf(credentials) } });
  } catch {
    throw new Error('The server cannot be reached. Is it still running?');
  }
  if (response.status === 401) throw new Error('The server does not know this key.');
  if (response.status === 429) throw new Error('Too many attempts from here. Wait a minute and try again.');
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  return (await response.json()) as Me;
}

const NO_WAYS: Ways = { providers: [], passwords: false };

/** The ways to sign in without a key; none when the server does not say. */
export async function waysIn(): Promise<Ways> {
  try {
    const response = await fetch('v1/auth/providers', { headers: { Accept: 'application/json' } });
    return response.ok ? ((await response.json()) as Ways) : NO_WAYS;
  } catch {
    return NO_WAYS;
  }
}

/** Tokens for a name and a password. Throws an Error with a text for people when there are none. */
export async function signInByPassword(name: string, password: string): Promise<AccessToken> {
  const form = new URLSearchParams({ grant_type: 'password', username: name, password });
  let response: Response;
  try {
    response = await fetch('v1/auth/token', { method: 'POST', headers: { Accept: 'application/json' }, body: form });
  } catch {
    throw new Error('The server cannot be reached. Is it still running?');
  }
  if (response.status === 400 || response.status === 401) throw new Error('The name or the password is wrong.');
  if (response.status === 429) throw new Error('Too many attempts. Wait a minute and try again.');
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  return (await response.json()) as AccessToken;
}

/** Changes the password of whoever is signed in. Throws an Error with a text for people when that did not work. */
export async function changePassword(headers: Record<string, string>, old: string, fresh: string): Promise<void> {
  const form = new URLSearchParams({ old_password: old, new_password: fresh });
  let response: Response;
  try {
    response = await fetch('v1/auth/password', { method: 'POST', headers: { ...headers, Accept: 'application/json' }, body: form });
  } catch {
    throw new Error('The server cannot be reached. Is it still running?');
  }
  if (response.ok) return;
  if (response.status === 401) throw new Error('Your session is over. Sign in again.');
  if (response.status === 403) throw new Error('The old password is wrong.');
  if (response.status === 429) throw new Error('Too many attempts. Wait a minute and try again.');
  const told = (await response.json().catch(() => ({}))) as { detail?: unknown };
  throw new Error(typeof told.detail === 'string' ? told.detail : `The server answered ${response.status}.`);
}

/** An access token for a refresh token, or for the browser's cookie when that is empty; null when the session is over. */
export async function renewBy(refreshToken: string): Promise<AccessToken | null> {
  if (refreshToken === '') return renewByCookie();
  try {
    const form = new URLSearchParams({ refresh_token: refreshToken });
    const response = await fetch('v1/auth/refresh', { method: 'POST', headers: { Accept: 'application/json' }, body: form });
    return response.ok ? ((await response.json()) as AccessToken) : null;
  } catch {
    return null;
  }
}

/** An access token for the browser's cookie; null when there is no session any more. */
export async function renewByCookie(): Promise<AccessToken | null> {
  const ask = async (): Promise<AccessToken | null> => {
    const response = await fetch('v1/auth/refresh', { method: 'POST', headers: { Accept: 'application/json' } });
    return response.ok ? ((await response.json()) as AccessToken) : null;
  };
  try {
    // The cookie is good once. Two tabs that used it at a time would end the session for both.
    return await (navigator.locks === undefined ? ask() : navigator.locks.request(LOCK, ask));
  } catch {
    return null;
  }
}

function endSession(refreshToken: string): void {
  const body = refreshToken === '' ? {} : { body: new URLSearchParams({ refresh_token: refreshToken }) };
  // Whether it works or not: the page has forgotten the session already.
  fetch('v1/auth/logout', { method: 'POST', keepalive: true, ...body }).catch(() => undefined);
}

/** An empty text removes. */
function keep(storage: Storage | null, name: string, text: string): void {
  try {
    if (text === '') storage?.removeItem(name);
    else storage?.setItem(name, text);
  } catch {
    // A browser that keeps nothing still has it until the page is left.
  }
}

function read(storage: Storage | null): Credentials | null {
  try {
    const found: unknown = JSON.parse(storage?.getItem(ITEM) ?? 'null');
    if (typeof found !== 'object' || found === null) return null;
    const { key, tenant } = found as Partial<Credentials>;
    return typeof key === 'string' && isSendable(key) && typeof tenant === 'string' ? { key, tenant } : null;
  } catch {
    return null;
  }
}

function tabStorage(): Storage | null {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null;
  }
}

export const session = new Session(tabStorage());
