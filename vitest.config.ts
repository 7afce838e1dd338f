import { defineConfig } from 'vitest/config';

const second = 1000;
const minute = 60 * second;

/** The folders with TypeScript tests beside their source. */
const sources = '{cli,crds,operator,dataplane,lab,scripts,helm,e2e}';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: [`${sources}/**/*.test.ts`],
          exclude: ['**/*.cluster.test.ts', '**/node_modules/**'],
          // Some start processes, on machines that are busy with a build.
          testTimeout: 30 * second,
        },
      },
      {
        // Against a real API server. One file after the other: they share it.
        test: {
          name: 'cluster',
          include: [`${sources}/**/*.cluster.test.ts`],
          globalSetup: ['operator/testing/cluster-setup.ts'],
          fileParallelism: false,
          testTimeout: 2 * minute,
          hookTimeout: 15 * minute,
        },
      },
      {
        // In the lab's guests, which are emulated on most machines: limits only a hang reaches.
        test: {
          name: 'e2e',
          include: ['e2e/**/*.e2e.ts'],
          globalSetup: ['e2e/lab-setup.ts'],
          fileParallelism: false,
          testTimeout: 30 * minute,
          hookTimeout: 60 * minute,
        },
      },
    ],
  },
});
