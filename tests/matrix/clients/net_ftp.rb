# Drives Ruby's Net::FTP: one session, the jobs that standard input lists.
require "net/ftp"

job = ARGV.to_h { |word| word.split("=", 2) }
version = job["max_tls"] == "1.2" ? OpenSSL::SSL::TLS1_2_VERSION : OpenSSL::SSL::TLS1_3_VERSION
tls = { ca_file: job["ca"], min_version: version, max_version: version }

# It says every line of the dialogue.
$stdout.sync = true
ftp = Net::FTP.new(
  job["host"], port: job["port"].to_i, username: job["user"], password: job["password"],
  passive: job["data"] != "active", open_timeout: job["timeout"].to_i, read_timeout: job["timeout"].to_i,
  ssl: job["tls"] == "clear" ? nil : tls, implicit_ftps: job["tls"] == "implicit", debug_mode: true
)
ftp.resume = true
ftp.chdir(job["directory"])
$stdin.each_line do |line|
  verb, *words = line.split
  name, second = words.map { |word| [word].pack("H*") }
  case verb
  when "list"
    ftp.list { |entry| puts entry }
  when "upload", "append", "resume-upload"
    File.open(second, "rb") do |file|
      rest = nil
      if verb == "resume-upload"
        rest = ftp.size(name)
        file.seek(rest)
      end
      # It goes on with APPE where others say REST.
      ftp.storbinary((verb == "upload" ? "STOR ".b : "APPE ".b) + name, file, 65_536, rest)
    end
  when "download", "resume-download"
    resume = verb == "resume-download"
    File.open(second, resume ? "ab" : "wb") do |file|
      ftp.retrbinary("RETR ".b + name, 65_536, resume ? file.size : nil) { |block| file.write(block) }
    end
  when "rename" then ftp.rename(name, second)
  when "delete" then ftp.delete(name)
  when "mkdir" then ftp.mkdir(name)
  when "rmdir" then ftp.rmdir(name)
  end
end
ftp.quit
ftp.close
