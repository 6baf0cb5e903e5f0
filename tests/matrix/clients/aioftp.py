"""Drives aioftp: one session, the jobs that standard input lists."""
import asyncio
import logging
import ssl
import sys

import aioftp

job = dict(word.split("=", 1) for word in sys.argv[1:])
# It says every line of the dialogue.
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)


async def upload(client, verb, name, path):
    with open(path, "rb") as file:
        if verb == "append":
            stream = client.append_stream(name)
        else:
            offset = 0
            if verb == "resume-upload":
                await client.command("TYPE I", "200")
                _, lines = await client.command(f"SIZE {name}", "213")
                offset = int(lines[0].split()[-1])
                file.seek(offset)
            stream = client.upload_stream(name, offset=offset)
        async with stream as stream:
            while block := file.read(65536):
                await stream.write(block)


async def download(client, verb, name, path):
    with open(path, "ab" if verb == "resume-download" else "wb") as file:
        async with client.download_stream(name, offset=file.tell()) as stream:
            async for block in stream.iter_by_block():
                file.write(block)


async def main():
    context = ssl.create_default_context(cafile=job["ca"])
    version = ssl.TLSVersion.TLSv1_2 if job["max_tls"] == "1.2" else ssl.TLSVersion.TLSv1_3
    context.minimum_version = context.maximum_version = version
    client = aioftp.Client(
        socket_timeout=int(job["timeout"]), encoding=job["encoding"], passive_commands=(job["data"],),
        ssl=context if job["tls"] == "implicit" else None)
    await client.connect(job["host"], int(job["port"]))
    if job["tls"] == "explicit":
        await client.upgrade_to_tls(context)
    await client.login(job["user"], job["password"])
    await client.change_directory(job["directory"])
    for line in sys.stdin:
        verb, *words = line.split()
        words = [bytes.fromhex(word) for word in words]
        names = [word.decode(job["encoding"]) for word in words]
        if verb == "list":
            async with client.get_stream("LIST", "1xx") as stream:
                async for entry in stream.iter_by_line():
                    sys.stdout.buffer.write(entry)
        elif verb in ("upload", "append", "resume-upload"):
            await upload(client, verb, names[0], words[1])
        elif verb in ("download", "resume-download"):
            await download(client, verb, names[0], words[1])
        elif verb == "rename":
            await client.rename(*names)
        elif verb == "delete":
            await client.remove_file(*names)
        elif verb == "mkdir":
            await client.command(f"MKD {names[0]}", "257")
        elif verb == "rmdir":
            await client.remove_directory(*names)
    await client.quit()


asyncio.run(main())
