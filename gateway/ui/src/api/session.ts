// The key that the page shows to the server. It lives in the tab's session storage: other tabs do not have it, and it is
// gone when the tab is.

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

export type Storage = Pick<globalThis.Storage, 'getItem' | 'setItem' | 'removeItem'>;

const ITEM = 'millstream.credentials';
const SENDABLE = /^[\x21-\x7e]+$/;

export class Session {
  private credentials: Credentials | null;
  private demanded = false;
  private reason = '';
  private readonly listeners = new Set<() => void>();

  constructor(private readonly storage: Storage | null) {
    this.credentials = read(storage);
  }

  get signedIn(): boolean {
    return this.credentials !== null;
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
    this.reason = this.credentials === null ? '' : 'The server does not accept this key any more.';
    this.demanded = true;
    this.set(null);
  }

  signIn(credentials: Credentials): void {
    this.demanded = false;
    this.reason = '';
    this.set(credentials);
  }

  signOut(): void {
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
    try {
      if (credentials === null) this.storage?.removeItem(ITEM);
      else this.storage?.setItem(ITEM, JSON.stringify(credentials));
    } catch {
      // A browser that keeps nothing still has the key until the page is left.
    }
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
