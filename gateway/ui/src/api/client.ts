// The one place that talks to the server. URLs are relative, so the page works behind a path prefix.

import { session } from './session';
import type { Answer, MetricMetadata, QueryData } from './types';

/** What the server, or the way to it, answered instead of data. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly kind: string,
    readonly status: number,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

type Parameters = ReadonlyArray<readonly [string, string]>;

async function call<T>(path: string, parameters: Parameters, method: 'GET' | 'POST', signal?: AbortSignal): Promise<Answer<T>> {
  const form = new URLSearchParams(parameters.map(([key, value]) => [key, value]));
  await session.fresh();
  const credentials = session.headers();
  const request: RequestInit = { method, headers: { Accept: 'application/json', ...credentials } };
  if (signal !== undefined) request.signal = signal;
  let url = `api/v1/${path}`;
  if (method === 'POST') request.body = form;
  else if (parameters.length > 0) url += `?${form.toString()}`;

  let response: Response;
  try {
    response = await fetch(url, request);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError('The server cannot be reached. Is it still running?', 'unreachable', 0);
  }
  if (response.status === 401) session.refused(credentials);
  return readEnvelope<T>(response);
}

interface Envelope<T> {
  readonly status?: string;
  readonly data?: T;
  readonly errorType?: string;
  readonly error?: string;
  readonly warnings?: readonly string[];
  readonly infos?: readonly string[];
  /** RFC 9457, from what stands in front of the Prometheus routes (limits, sign-in, proxies). */
  readonly title?: string;
  readonly detail?: string;
}

async function readEnvelope<T>(response: Response): Promise<Answer<T>> {
  let envelope: Envelope<T>;
  try {
    envelope = (await response.json()) as Envelope<T>;
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(`The server answered ${response.status} without a readable body.`, 'unreadable', response.status);
  }
  if (envelope.status === 'success') {
    return { data: envelope.data as T, warnings: envelope.warnings ?? [], infos: envelope.infos ?? [] };
  }
  const message = envelope.error ?? envelope.detail ?? envelope.title ?? `The server answered ${response.status}.`;
  throw new ApiError(message, envelope.errorType ?? 'error', response.status);
}

export function queryRange(
  expr: string,
  window: { readonly start: number; readonly end: number; readonly step: number },
  signal: AbortSignal,
): Promise<Answer<QueryData>> {
  const parameters: Parameters = [
    ['query', expr],
    ['start', String(window.start)],
    ['end', String(window.end)],
    ['step', String(window.step)],
  ];
  return call('query_range', parameters, 'POST', signal);
}

export function queryInstant(expr: string, time: number, signal: AbortSignal): Promise<Answer<QueryData>> {
  return call('query', [['query', expr], ['time', String(time)]], 'POST', signal);
}

export async function labelNames(selectors: readonly string[], signal?: AbortSignal): Promise<readonly string[]> {
  return (await call<string[]>('labels', matches(selectors), 'GET', signal)).data;
}

export async function labelValues(label: string, selectors: readonly string[], signal?: AbortSignal): Promise<readonly string[]> {
  return (await call<string[]>(`label/${encodeURIComponent(label)}/values`, matches(selectors), 'GET', signal)).data;
}

export async function metadata(signal?: AbortSignal): Promise<Record<string, MetricMetadata[]>> {
  return (await call<Record<string, MetricMetadata[]>>('metadata', [], 'GET', signal)).data;
}

function matches(selectors: readonly string[]): Parameters {
  return selectors.map((selector) => ['match[]', selector]);
}
