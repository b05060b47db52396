import { useMemo, useState } from 'preact/hooks';
import type { QueryData } from '../api/types';
import { sortedRows, tableData, type SortKey } from '../lib/table';

interface ResultTableProps {
  readonly letter: string;
  readonly expr: string;
  readonly data: QueryData;
}

export function ResultTable({ letter, expr, data }: ResultTableProps) {
  const table = useMemo(() => tableData(data), [data]);
  const [key, setKey] = useState<SortKey | null>(null);
  const [descending, setDescending] = useState(false);
  const rows = useMemo(() => (key === null ? table.rows : sortedRows(table.rows, key, descending)), [table, key, descending]);

  const sortBy = (next: SortKey): void => {
    const same = key !== null && JSON.stringify(key) === JSON.stringify(next);
    // Numbers are most telling with the largest on top, names from A to Z.
    setDescending(same ? !descending : next.by === 'value');
    setKey(next);
  };
  const heading = (next: SortKey, text: string, className: string) => {
    const active = key !== null && JSON.stringify(key) === JSON.stringify(next);
    return (
      <th key={text} class={className} scope="col" aria-sort={active ? (descending ? 'descending' : 'ascending') : 'none'}>
        <button type="button" onClick={() => sortBy(next)}>
          {text}
          <span aria-hidden="true">{active ? (descending ? ' ↓' : ' ↑') : ''}</span>
        </button>
      </th>
    );
  };
  return (
    <section class="table-section" aria-label={`Result of query ${letter}`}>
      <p class="hint table-title">
        <b>{letter}</b> <code>{expr}</code> · {table.rows.length + table.omitted} {table.rows.length + table.omitted === 1 ? 'row' : 'rows'}
        {table.omitted > 0 && `, the first ${table.rows.length} shown`}
      </p>
      {table.rows.length === 0 ? (
        <p class="nothing">No series at this time.</p>
      ) : (
        <div class="table-scroll" tabIndex={0} role="region" aria-label={`Table of query ${letter}`}>
          <table>
            <thead>
              <tr>
                {table.columns.map((label) => heading({ by: 'label', label }, label === '__name__' ? 'metric' : label, ''))}
                {heading({ by: 'value' }, 'value', 'number')}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={JSON.stringify(row.labels)}>
                  {table.columns.map((label) => (
                    <td key={label}>{row.labels[label] ?? ''}</td>
                  ))}
                  <td class="number">{row.value}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
