"""The detector as a service: an HTTP API and a web page, `python -m ffdetect.serve`.

One process answers requests and never decodes what users send; worker processes do, and one that a
file takes down is replaced. Needs the [serve] extra.
"""
