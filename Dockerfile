# The page in a container. CPU: `docker build -t mpl-video .`; CUDA: add `--build-arg TORCH=cu128`.
FROM python:3.12-slim

# The build of PyTorch, by the name of its wheel index: cpu, cu126, cu128 …
ARG TORCH=cpu

RUN useradd --create-home --uid 1000 mpl
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${TORCH}" "torch>=2.8,<2.14" \
 && pip install --no-cache-dir -r requirements.txt "gradio[mcp]>=6.14,<7"

COPY --chown=mpl app.py LICENSE README.md ./
COPY --chown=mpl assets assets
COPY --chown=mpl mpl mpl
COPY --chown=mpl presets presets
RUN mkdir /data && chown mpl /data

USER mpl
# Downloaded weights and everything that the page writes outlive the container where /data is a volume.
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 GRADIO_ANALYTICS_ENABLED=False \
    MPL_OUT=/data/outputs HF_HOME=/data/huggingface PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/config')"]
ENTRYPOINT ["python", "app.py"]
