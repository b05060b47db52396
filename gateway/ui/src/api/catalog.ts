// What exists in the database: metric names, labels, values. Answers are kept for a while, because the
// browser panel and the completion ask for the same things again and again.

import type { PrometheusClient } from '@prometheus-io/codemirror-promql';
import { EqlSingle } from '@prometheus-io/lezer-promql';
import { matcherText } from '../lib/labels';
import * as api from './client';
import type { MetricMetadata } from './types';

const KEEP_MILLISECONDS = 30_000;
const ENTRIES_MAX = 500;

export class Catalog {
  private readonly kept = new Map<string, { readonly until: number; readonly answer: Promise<unknown> }>();

  metricNames(): Promise<readonly string[]> {
    return this.keep('metrics', () => api.labelValues('__name__', []));
  }

  metadata(): Promise<Record<string, MetricMetadata[]>> {
    return this.keep('metadata', () => api.metadata());
  }

  labelNames(selectors: readonly string[]): Promise<readonly string[]> {
    return this.keep(`labels ${selectors.join('\n')}`, () => api.labelNames(selectors));
  }

  labelValues(label: string, selectors: readonly string[]): Promise<readonly string[]> {
    return this.keep(`values ${label}\n${selectors.join('\n')}`, () => api.labelValues(label, selectors));
  }

  forget(): void {
    this.kept.clear();
  }

  private keep<T>(key: string, ask: () => Promise<T>): Promise<T> {
    const found = this.kept.get(key);
    if (found !== undefined && found.until > performance.now()) return found.answer as Promise<T>;
    const answer = ask();
    if (this.kept.size >= ENTRIES_MAX) this.kept.clear();
    this.kept.set(key, { until: performance.now() + KEEP_MILLISECONDS, answer });
    // A failure is not worth keeping: the next question asks again.
    answer.catch(() => this.kept.delete(key));
    return answer;
  }
}

interface Matcher {
  readonly name: string;
  readonly type: number;
  readonly value: string;
}

/** The catalog in the form that the PromQL completion asks for. Failures complete nothing. */
export function completionSource(catalog: Catalog): PrometheusClient {
  return {
    metricNames: async () => [...(await orNothing(catalog.metricNames(), []))],
    labelNames: async (metric?: string) => [...(await orNothing(catalog.labelNames(selectors(metric, [])), []))],
    labelValues: async (label: string, metric?: string, matchers: Matcher[] = []) => {
      const others = matchers.filter((matcher) => matcher.name !== label);
      return [...(await orNothing(catalog.labelValues(label, selectors(metric, others)), []))];
    },
    metricMetadata: () => orNothing(catalog.metadata(), {}),
    series: async () => [],
    flags: async () => ({}),
  };
}

/** What is already typed narrows the answer down: the metric, and matchers of the form `name="value"`. */
function selectors(metric: string | undefined, matchers: readonly Matcher[]): string[] {
  const equal = matchers
    .filter((matcher) => matcher.type === EqlSingle && matcher.value !== '')
    .map((matcher) => matcherText(matcher.name, matcher.value));
  if (metric !== undefined && metric !== '') equal.unshift(matcherText('__name__', metric));
  return equal.length === 0 ? [] : [`{${equal.join(',')}}`];
}

async function orNothing<T>(answer: Promise<T>, nothing: T): Promise<T> {
  try {
    return await answer;
  } catch {
    return nothing;
  }
}
