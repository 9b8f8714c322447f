# Two images. docs/deployment.md shows how they are used.
#
#   docker build --target serve -t dcp-serve .     the prediction API for one exported file, without torch
#   docker build -t dcp .                          the dashboard, with a CPU build of torch

FROM python:3.11-slim AS serve
COPY requirements-serve.txt /tmp/
RUN pip install --no-cache-dir -r /tmp/requirements-serve.txt
WORKDIR /app
COPY dcp_core dcp_core
RUN python -m compileall -q dcp_core && useradd --uid 1000 --create-home dcp \
    && mkdir -p /data /model && chown dcp /data
ENV DCP_HOME=/data PYTHONUNBUFFERED=1
USER dcp
VOLUME /data
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=5)"]
ENTRYPOINT ["python", "-m", "dcp_core", "serve-file"]
CMD ["/model/model.onnx", "--host", "0.0.0.0"]

FROM python:3.11-slim AS dashboard
COPY requirements.txt /tmp/
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -r /tmp/requirements.txt
WORKDIR /app
COPY . .
RUN python -m compileall -q dcp_core pages && useradd --uid 1000 --create-home dcp && mkdir -p /data && chown dcp /data
ENV DCP_HOME=/data DCP_LAUNCH=0 PYTHONUNBUFFERED=1
USER dcp
VOLUME /data
EXPOSE 8501
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"]
CMD ["python", "-m", "dcp_core", "app", "--server.headless=true", "--server.address=0.0.0.0"]
