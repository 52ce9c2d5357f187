# The service, or any other command, with the weights inside; it needs no network.
#
#     docker build -t ffdetect .
#     docker run --rm --read-only --tmpfs /tmp -p 8000:8000 ffdetect
#     docker run --rm -v "$PWD/data:/data:ro" -v "$PWD/out:/out" ffdetect predict /data --out /out/prediction.txt
#
# PyTorch comes with CUDA, which takes most of the image. Name an index that has it for processors
# alone, and the image is several times smaller: --build-arg PIP_INDEX_URL=...
FROM python:3.11-slim AS build
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL
COPY . /source
RUN sh /source/container/install.sh /opt/ffdetect

FROM python:3.11-slim
COPY --from=build /opt/ffdetect /opt/ffdetect
# The one place that may be written to is /tmp.
ENV PATH=/opt/ffdetect/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v1/health', timeout=4)"]
ENTRYPOINT ["ffdetect"]
CMD ["serve", "--host", "0.0.0.0"]
