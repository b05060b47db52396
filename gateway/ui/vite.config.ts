import { defineConfig } from 'vitest/config';

// The gateway that `npm run dev` forwards API calls to.
const gateway = process.env['MILLSTREAM_DEV_GATEWAY'] ?? 'http://127.0.0.1:8080';

export default defineConfig({
  // Relative asset URLs, so that the page also works behind a path prefix.
  base: './',
  build: {
    outDir: '../millstream_gateway/static',
    emptyOutDir: true,
    // Nothing is inlined: the Content-Security-Policy allows files of our own origin only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
    chunkSizeWarningLimit: 700,
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  server: { proxy: { '/api': gateway, '/v1': gateway } },
  test: {
    include: ['test/**/*.test.ts'],
    environment: 'node',
    // One instance of each editor package: Node would load the CommonJS twin of this one, and with it of the others.
    alias: { '@prometheus-io/codemirror-promql': '@prometheus-io/codemirror-promql/dist/esm/index.js' },
    server: { deps: { inline: [/@codemirror/, /@lezer/, /@prometheus-io/] } },
  },
});
