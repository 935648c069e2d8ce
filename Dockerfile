# One image for GPU clusters: torch's default wheels bring CUDA, the host brings the driver.
#   docker build --tag defectloc .
#   docker run --rm --gpus all --volume "$PWD/outputs:/work/outputs" --volume /data:/work/data:ro defectloc train subset=pill

FROM python:3.11-slim AS requirements
WORKDIR /requirements
COPY pyproject.toml .
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['offline'], sep='\n')" > requirements.txt

FROM python:3.11-slim

# Mounted folders keep the host's owner; see docs/cluster.md for other user numbers than 1000.
RUN useradd --create-home --uid 1000 defectloc \
    && mkdir -p /work/outputs /work/data \
    && chown -R defectloc /work

# Several GB that change seldom, so in a layer of their own, which only another list of dependencies makes again.
COPY --from=requirements /requirements/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --requirement /tmp/requirements.txt

COPY pyproject.toml README.md LICENSE /opt/defectloc/
COPY conf /opt/defectloc/conf
COPY defectloc /opt/defectloc/defectloc
RUN pip install --no-cache-dir --no-deps /opt/defectloc

# PYTHONNOUSERSITE: Apptainer mounts the user's home, whose packages must not get in.
# MPLCONFIGDIR: a user number without a home has nowhere else to write Matplotlib's cache.
ENV MVTEC_ROOT=/work/data/mvtec_anomaly_detection \
    NO_ALBUMENTATIONS_UPDATE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONNOUSERSITE=1 \
    MPLCONFIGDIR=/tmp/matplotlib

# By number, so that a cluster can see that it is not root.
USER 1000:1000
WORKDIR /work
VOLUME ["/work/outputs", "/work/data"]
ENTRYPOINT ["defectloc"]
CMD ["--help"]
