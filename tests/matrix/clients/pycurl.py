"""Drives PycURL: one handle, and by it one session, for the jobs that standard input lists."""
import os
import sys
from urllib.parse import quote_from_bytes

import pycurl

job = dict(word.split("=", 1) for word in sys.argv[1:])
host = f"[{job['host']}]" if ":" in job["host"] else job["host"]
directory = f"{'ftps' if job['tls'] == 'implicit' else 'ftp'}://{host}:{job['port']}/{job['directory']}/"
curl = pycurl.Curl()


def url(name):
    return directory + quote_from_bytes(name)


def perform(**options):
    """What was set for one job isn't for the next; the connection is kept."""
    curl.reset()
    curl.setopt(pycurl.VERBOSE, True)
    curl.setopt(pycurl.TIMEOUT, int(job["timeout"]))
    curl.setopt(pycurl.USERNAME, job["user"])
    curl.setopt(pycurl.PASSWORD, job["password"])
    curl.setopt(pycurl.FTP_USE_EPSV, job["data"] == "epsv")
    if job["data"] == "active":
        curl.setopt(pycurl.FTPPORT, "-")
    if job["tls"] != "clear":
        version = "TLSv1_2" if job["max_tls"] == "1.2" else "TLSv1_3"
        curl.setopt(pycurl.SSLVERSION, getattr(pycurl, f"SSLVERSION_{version}") | getattr(pycurl, f"SSLVERSION_MAX_{version}"))
        curl.setopt(pycurl.CAINFO, job["ca"])
        curl.setopt(pycurl.USE_SSL, pycurl.USESSL_ALL)
    for option, value in options.items():
        curl.setopt(getattr(pycurl, option), value)
    curl.perform()


def upload(name, path, **options):
    with open(path, "rb") as file:

        def seek(offset, origin):
            file.seek(offset, origin)
            return pycurl.SEEKFUNC_OK

        perform(
            URL=url(name), UPLOAD=True, READDATA=file, SEEKFUNCTION=seek, INFILESIZE=os.path.getsize(path), **options)


def command(*lines):
    """After the change to the directory, and instead of a transfer."""
    perform(URL=directory, NOBODY=True, PREQUOTE=lines)


for line in sys.stdin:
    verb, *words = line.split()
    words = [bytes.fromhex(word) for word in words]
    if verb == "list":
        perform(URL=directory, WRITEFUNCTION=sys.stdout.buffer.write)
    elif verb == "upload":
        upload(*words)
    elif verb == "append":
        upload(*words, APPEND=True)
    elif verb == "resume-upload":
        upload(*words, RESUME_FROM=-1)
    elif verb == "download":
        with open(words[1], "wb") as file:
            perform(URL=url(words[0]), WRITEDATA=file)
    elif verb == "resume-download":
        with open(words[1], "ab") as file:
            perform(URL=url(words[0]), WRITEDATA=file, RESUME_FROM=os.path.getsize(words[1]))
    elif verb == "rename":
        command(b"RNFR " + words[0], b"RNTO " + words[1])
    else:
        command({"delete": b"DELE ", "mkdir": b"MKD ", "rmdir": b"RMD "}[verb] + words[0])
curl.close()
