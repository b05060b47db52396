// Queries to start with, made from the metrics that really exist.

import { metricSelector } from './labels';

export interface Example {
  readonly title: string;
  readonly query: string;
}

const EXAMPLES_MAX = 6;

interface Recipe {
  readonly pattern: RegExp;
  readonly title: (metric: string) => string;
  readonly query: (metric: string) => string;
}

// In order of interest: what a newcomer recognises comes first.
const RECIPES: readonly Recipe[] = [
  { pattern: /^(host|node|system)_cpu_seconds_total$/, title: () => 'CPU by mode', query: (metric) => `sum by (mode) (rate(${metric}[1m]))` },
  { pattern: /cpu.*(percent|ratio|usage|utili[sz]ation)/, title: () => 'CPU in use', query: (metric) => metric },
  { pattern: /^(host|system)_memory_(usage_)?bytes$|^node_memory_MemAvailable_bytes$|memory_(used|available)_bytes$/, title: () => 'Memory', query: (metric) => metric },
  { pattern: /network_receive_bytes_total$/, title: () => 'Network traffic received', query: (metric) => `rate(${metric}[1m])` },
  { pattern: /disk_(written|write)_bytes_total$/, title: () => 'Written to disk', query: (metric) => `rate(${metric}[1m])` },
  { pattern: /(request|query|http).*_seconds_bucket$/, title: () => '95th percentile of request times', query: (metric) => `histogram_quantile(0.95, sum by (le) (rate(${metric}[5m])))` },
  { pattern: /(^|_)http_requests_total$|^requests_total$/, title: () => 'Requests per second', query: (metric) => `sum(rate(${metric}[1m]))` },
  { pattern: /(^|_)(ingest_items|samples_ingested|ingested_samples|samples_appended|appended_samples)_total$/, title: () => 'Samples per second', query: (metric) => `sum(rate(${metric}[1m]))` },
  { pattern: /^up$/, title: () => 'What is up', query: (metric) => metric },
  { pattern: /resident_memory_bytes$/, title: () => 'Memory of processes', query: (metric) => metric },
  { pattern: /(^|_)load_?1$/, title: () => 'System load', query: (metric) => metric },
];

export function exampleQueries(metricNames: readonly string[]): Example[] {
  const examples: Example[] = [];
  const used = new Set<string>();
  for (const recipe of RECIPES) {
    const metric = metricNames.find((name) => recipe.pattern.test(name));
    if (metric !== undefined && !used.has(metric)) {
      used.add(metric);
      examples.push({ title: recipe.title(metric), query: recipe.query(metricSelector(metric)) });
    }
  }
  for (const metric of metricNames) {
    if (examples.length >= Math.min(3, metricNames.length)) break;
    if (used.has(metric)) continue;
    used.add(metric);
    examples.push(genericExample(metric));
  }
  return examples.slice(0, EXAMPLES_MAX);
}

function genericExample(metric: string): Example {
  const selector = metricSelector(metric);
  if (metric.endsWith('_total')) return { title: `Rate of ${metric}`, query: `rate(${selector}[5m])` };
  if (metric.endsWith('_bucket')) {
    return { title: `Median of ${metric.replace(/_bucket$/, '')}`, query: `histogram_quantile(0.5, sum by (le) (rate(${selector}[5m])))` };
  }
  return { title: metric, query: selector };
}
