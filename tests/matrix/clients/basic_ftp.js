// Drives basic-ftp: one session, the jobs that standard input lists.
const fs = require("fs");
const ftp = require("basic-ftp");

const [host, port, user, password, tls, version, data, ca, directory, encoding, timeout] = process.argv.slice(1);

// Node.js 18, as Debian 12 has it, finds no IPv6 address in any certificate. The certificate is for this name, too.
const named = host.includes(":") ? { servername: "localhost" } : { host };

async function main() {
    const client = new ftp.Client(1000 * Number(timeout));
    client.ftp.verbose = true;
    client.ftp.encoding = encoding;
    client.prepareTransfer = data === "pasv" ? ftp.enterPassiveModeIPv4 : ftp.enterPassiveModeIPv6;
    await client.access({
        host, port: Number(port), user, password,
        secure: tls === "clear" ? false : tls === "implicit" ? "implicit" : true,
        secureOptions: tls === "clear" ? undefined
            : { ...named, ca: fs.readFileSync(ca), minVersion: version, maxVersion: version },
    });
    await client.cd(directory);
    for (const line of fs.readFileSync(0, "utf8").split("\n").filter(Boolean)) {
        const [verb, ...words] = line.split(" ");
        const bytes = words.map((word) => Buffer.from(word, "hex"));
        const [name, second] = bytes.map((word) => word.toString(encoding));
        const local = () => bytes[1].toString();
        switch (verb) {
        case "list":
            for (const file of await client.list()) console.log(file.name);
            break;
        case "upload":
            await client.uploadFrom(local(), name);
            break;
        case "append":
            await client.appendFrom(local(), name);
            break;
        case "resume-upload":
            await client.appendFrom(local(), name, { localStart: await client.size(name) });
            break;
        case "download":
            await client.downloadTo(local(), name);
            break;
        case "resume-download":
            await client.downloadTo(local(), name, fs.statSync(local()).size);
            break;
        case "rename":
            await client.rename(name, second);
            break;
        case "delete":
            await client.remove(name);
            break;
        case "mkdir":
            await client.send("MKD " + name);
            break;
        case "rmdir":
            await client.removeEmptyDir ? await client.removeEmptyDir(name) : await client.send("RMD " + name);
            break;
        default:
            throw new Error("unknown job " + verb);
        }
    }
    client.close();
}

// Without the connection and the certificate that the error holds, which are a thousand lines.
main().catch((error) => { console.error(error.stack); process.exit(1); });
