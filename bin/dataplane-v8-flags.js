// How V8 runs the dataplane's JavaScript. It does no I/O of hosts, so memory counts more than speed: measured over
// thousands of link flaps, these make it some 30 MiB smaller, and flat from flap to flap, for a tenth more time of the
// control thread. CommonJS, so that every Node.js can read it.
exports.dataplaneV8Flags = [
  // Interpreted only: what is compiled, and what is kept for compiling it better, grows for thousands of flaps.
  '--no-opt',
  '--no-maglev',
  '--no-sparkplug',
  // The young generation stays as small as it can be: left alone it grows while modules load, and never shrinks.
  '--semi-space-growth-factor=1',
  '--max-semi-space-size=1',
  // Threads that collect together leave live objects ever differently strewn over pages, which are then kept.
  '--single-threaded-gc',
];
