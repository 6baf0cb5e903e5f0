"""Runs pyftpdlib for a test: address, port, root, user, password, passive ports, and certificate and key if with TLS."""
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

address, port, root, user, password, first, last, *pair = sys.argv[1:]
handler = FTPHandler
if pair:
    from pyftpdlib.handlers import TLS_FTPHandler as handler
    handler.certfile, handler.keyfile = pair
handler.authorizer = DummyAuthorizer()
handler.authorizer.add_user(user, password, root, perm="elradfmwMT")
handler.passive_ports = range(int(first), int(last) + 1)
ThreadedFTPServer((address, int(port)), handler).serve_forever()
