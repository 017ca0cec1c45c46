# One image for laptops and clusters: everything inside, no network when it runs, any user.
#
#     docker build -t scsnet-bids --build-arg PIP_EXTRA_INDEX_URL=ADDRESS .
#     docker run --rm -u "$(id -u):$(id -g)" -v /data:/data:ro -v /out:/out -v /scratch:/work \
#         scsnet-bids /data /out participant -w /work
#
# ADDRESS is that of PyTorch's index of CPU builds; docs/installation.md says which build pip takes, and
# how to choose the one for GPUs.

ARG BASE=debian:bookworm-slim

# ---------------------------------------------------------------------------- build
FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/scsnet
ENV PATH=/opt/scsnet/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Where pip looks for packages is its own configuration's business; these two are for a mirror, for
# PyTorch's own index, or for a folder of wheels that is mounted while the image is built.
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_FIND_LINKS=

# The largest part first, so that a change of our code does not fetch it again.
WORKDIR /source
COPY constraints.txt .
RUN pip install --constraint constraints.txt torch

# cpu: an image that turns out to hold CUDA (several GB) is refused. cuda: the other way round.
ARG VARIANT=cpu
RUN python -c "import sys, torch; \
found = 'cuda' if torch.version.cuda else 'cpu'; \
sys.exit(None if found == '${VARIANT}' else \
f'VARIANT=${VARIANT} was asked for, and pip found the {found} build of PyTorch. Give ' \
'PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS; see docs/installation.md.')"

COPY . .
RUN pip install --constraint constraints.txt .

# What only builds or tests other software. Compilers never came in: pip took wheels.
RUN cd /opt/scsnet/lib/python3*/site-packages \
    && find . -depth -type d -name tests -exec rm -rf {} + \
    && rm -rf torch/include torch/share torch/test torch/bin/protoc* torch/bin/test_* \
    && pip uninstall --quiet --yes pip \
    && cp /source/tests/containers/selftest.sh /opt/scsnet/bin/selftest \
    && chmod -R u=rwX,go=rX /opt/scsnet \
    && chmod 755 /opt/scsnet/bin/selftest

# ---------------------------------------------------------------------------- final
FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log \
    # Nobody needs to become another user in here.
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=build /opt/scsnet /opt/scsnet

# Nothing of the host's Python, no bytecode written, text is UTF-8. The app itself puts the caches of
# its libraries into its work folder: HOME may be absent, and /tmp may be another user's.
ENV PATH=/opt/scsnet/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/opt/scsnet \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NO_ET=1 \
    NIPYPE_NO_ET=1 \
    LANG=C.UTF-8

# A phantom goes through the entry point as a user whom the image does not know.
RUN setpriv --reuid 54321 --regid 54321 --clear-groups --no-new-privs \
    /opt/scsnet/bin/selftest && rm -rf /tmp/*

ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="scsnet-bids" \
    org.opencontainers.image.description="Region-wise diffusion metrics of the cervical spinal cord, as a BIDS App. Research software, not a medical device." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"

WORKDIR /tmp
ENTRYPOINT ["/opt/scsnet/bin/scsnet-bids"]
CMD ["--help"]
