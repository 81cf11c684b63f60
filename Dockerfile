# tuner and Triton in one image, for `--launcher local` and for the Job of `tuner job`. It runs as any
# user on a read-only file system: /tmp and /runs are all that is written.
#
#   docker build -t tuner .
#
# BASE needs Python 3.11 or newer. Wheels in build/wheels are used before those of the index; with
# --build-arg PIP_NO_INDEX=1 they are all there is, pip's own among them where BASE has no pip.
ARG BASE=nvcr.io/nvidia/tritonserver:25.10-py3

FROM ${BASE} AS packages
USER root
WORKDIR /build
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
# Of arguments, BuildKit alone shows them to the stages after this one, too.
ENV PIP_INDEX_URL=${PIP_INDEX_URL} PIP_NO_INDEX=${PIP_NO_INDEX} PIP_FIND_LINKS=/build \
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt build/wheel* ./
RUN python3 -m venv --without-pip /opt/tuner \
 && python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], sep='\n')" >needs.txt \
 && PYTHONPATH="$(echo pip-*.whl)" python3 -m pip --python /opt/tuner/bin/python install --no-compile \
    -c constraints.txt -r needs.txt \
 && { /opt/tuner/bin/python -m compileall -qq -j 0 /opt/tuner/lib || true; }

FROM packages AS tuner
COPY README.md LICENSE ./
COPY tuner tuner
COPY search_spaces search_spaces
COPY model_repository model_repository
RUN PYTHONPATH="$(echo pip-*.whl)" python3 -m pip --python /opt/tuner/bin/python install --no-deps \
    --prefix /tuner .

FROM ${BASE}
USER root
# Two layers: what tuner needs is large, and changes seldom.
COPY --from=packages /opt/tuner /opt/tuner
COPY --from=tuner /tuner /opt/tuner
# Links, and no PATH: Triton's Python models keep to the image's own Python and its packages.
RUN ln -s /opt/tuner/bin/tuner /opt/tuner/bin/triton-tuner /usr/local/bin/ && mkdir -m 1777 /runs
# A user of any number has no home. What is kept there (compiled simulations, weights) goes to /tmp.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /runs
USER 1000:1000
# NVIDIA's prints a banner, which would stand before the JSON of --json.
ENTRYPOINT []
CMD ["tuner", "--help"]
