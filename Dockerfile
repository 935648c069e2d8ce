# One image for GPU clusters: torch's default wheels bring CUDA, the host brings the driver.
#   docker build --tag defectloc .
#   docker run --rm --gpus all --volume "$PWD/outputs:/work/outputs" --volume /data:/work/data:ro defectloc train subset=pill
# Any Debian or Ubuntu with Python 3.11 or newer, pip and venv will do, for example an image of your own site.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS requirements
WORKDIR /build
COPY pyproject.toml .
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['offline'], sep='\n')" > requirements.txt
# More arguments of pip, such as a torch without CUDA from an index that has it:
# --build-arg EXTRA_REQUIREMENTS="--extra-index-url URL torch==2.13.0+cpu"
ARG EXTRA_REQUIREMENTS=""
# hadolint ignore=SC2086
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --requirement requirements.txt ${EXTRA_REQUIREMENTS}

FROM requirements AS package
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY defectloc defectloc
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --target /opt/defectloc .
# Mounted folders keep the host's owner; see docs/cluster.md for other user numbers than 1000.
RUN useradd --no-create-home --uid 1000 defectloc && mkdir -p /work/outputs /work/data

# Nothing is run in the last stage, so that what a build mounts or leaves behind stays out of the image.
# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
# Several GB that change seldom, so in a layer of their own, which only another list of dependencies makes again.
COPY --from=requirements /opt/venv /opt/venv
COPY --from=package /etc/passwd /etc/group /etc/
COPY --from=package --chown=1000:1000 /work /work
COPY --from=package /opt/defectloc /opt/defectloc

# PYTHONNOUSERSITE: Apptainer mounts the user's home, whose packages must not get in.
# HOME, MPLCONFIGDIR: a user number without a home has nowhere else to write caches, and the root may be read-only.
ENV PATH=/opt/defectloc/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/defectloc \
    MVTEC_ROOT=/work/data/mvtec_anomaly_detection \
    NO_ALBUMENTATIONS_UPDATE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib

# By number, so that a cluster can see that it is not root.
USER 1000:1000
WORKDIR /work
VOLUME ["/work/outputs", "/work/data"]
ENTRYPOINT ["defectloc"]
CMD ["--help"]
