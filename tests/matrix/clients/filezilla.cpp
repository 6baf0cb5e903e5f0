// Drives FileZilla's engine, the library beneath its window: one session, the jobs that standard input lists.
//
// Arguments: host, port, user, password, protection, data mode, directory, encoding, timeout.

#include <clocale>
#include <condition_variable>
#include <iostream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>

#include "FileZillaEngine.h"
#include "directorylisting.h"
#include "engine_context.h"
#include "engine_options.h"

namespace {

class Options final : public COptionsBase {
    void notify_changed() override { continue_notify_changed(); }
};

// Only ever asked for Latin-1.
class Latin1 final : public CustomEncodingConverterBase {
public:
    std::wstring toLocal(std::wstring const&, char const* text, size_t length) const override {
        std::wstring local;
        for (size_t i = 0; i < length; ++i) local += static_cast<unsigned char>(text[i]);
        return local;
    }
    std::string toServer(std::wstring const&, wchar_t const* text, size_t length) const override {
        return std::string(text, text + length);
    }
};

class Session {
public:
    Session() : context_(options_, latin1_), engine_(context_, [this](CFileZillaEngine*) { wake(); }) {}

    Options& options() { return options_; }
    CFileZillaEngine& engine() { return engine_; }
    fz::thread_pool& threads() { return context_.GetThreadPool(); }
    CServerPath const& listed() const { return listed_; }

    // Waits for the command's end; the program's own end if it failed.
    void run(CCommand const& command) {
        int reply = engine_.Execute(command);
        if (reply == FZ_REPLY_WOULDBLOCK) reply = wait();
        if (reply != FZ_REPLY_OK) {
            std::cerr << "failed: reply " << reply << std::endl;
            exit(1);
        }
    }

private:
    void wake() {
        std::lock_guard<std::mutex> lock(mutex_);
        pending_ = true;
        changed_.notify_one();
    }

    int wait() {
        while (true) {
            {
                std::unique_lock<std::mutex> lock(mutex_);
                changed_.wait(lock, [this] { return pending_; });
                pending_ = false;
            }
            int reply = FZ_REPLY_WOULDBLOCK;
            while (auto notification = engine_.GetNextNotification()) {
                if (notification->GetID() == nId_operation)
                    reply = static_cast<COperationNotification&>(*notification).replyCode_;
                else
                    handle(std::move(notification));
            }
            if (reply != FZ_REPLY_WOULDBLOCK) return reply;
        }
    }

    void handle(std::unique_ptr<CNotification> notification) {
        switch (notification->GetID()) {
        case nId_logmsg:
            std::cout << fz::to_utf8(static_cast<CLogmsgNotification&>(*notification).msg) << std::endl;
            break;
        case nId_listing:
            listed_ = static_cast<CDirectoryListingNotification&>(*notification).GetPath();
            break;
        case nId_asyncrequest:
            answer(std::unique_ptr<CAsyncRequestNotification>(
                static_cast<CAsyncRequestNotification*>(notification.release())));
            break;
        default:
            break;
        }
    }

    void answer(std::unique_ptr<CAsyncRequestNotification> request) {
        switch (request->GetRequestID()) {
        case reqId_fileexists: {
            auto& exists = static_cast<CFileExistsNotification&>(*request);
            exists.overwriteAction = exists.canResume ? CFileExistsNotification::resume : CFileExistsNotification::overwrite;
            break;
        }
        case reqId_certificate:
            static_cast<CCertificateNotification&>(*request).trusted_ = true;
            break;
        case reqId_insecure_connection:
            static_cast<CInsecureConnectionNotification&>(*request).allow_ = true;
            break;
        default:
            // A data connection that doesn't resume the TLS session is refused, as by a careful user.
            break;
        }
        engine_.SetAsyncRequestReply(std::move(request));
    }

    Options options_;
    Latin1 latin1_;
    CFileZillaEngineContext context_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool pending_{};
    CServerPath listed_;
    CFileZillaEngine engine_;
};

std::string unhex(std::string const& word) {
    std::string bytes;
    for (size_t i = 0; i + 1 < word.size(); i += 2) bytes += static_cast<char>(std::stoi(word.substr(i, 2), nullptr, 16));
    return bytes;
}

}

int main(int, char** argv) {
    std::setlocale(LC_ALL, "");
    std::string const host = argv[1], protection = argv[5], data = argv[6], encoding = argv[8];
    auto const wide = [](std::string const& text) { return fz::to_wstring_from_utf8(text); };
    auto const name_of = [&](std::string const& word) {
        auto const bytes = unhex(word);
        return encoding == "latin1" ? Latin1().toLocal({}, bytes.data(), bytes.size()) : wide(bytes);
    };

    Session session;
    session.options().set(OPTION_TIMEOUT, std::stoi(argv[9]));
    session.options().set(OPTION_RECONNECTCOUNT, 0);
    session.options().set(OPTION_LOGGING_SHOW_DETAILED_LOGS, 1);
    session.options().set(OPTION_ALLOW_TRANSFERMODEFALLBACK, 0);
    auto const protocol = protection == "clear" ? INSECURE_FTP : protection == "implicit" ? FTPS : FTPES;
    CServer server(protocol, DEFAULT, wide(host), std::stoul(argv[2]));
    server.SetUser(wide(argv[3]));
    server.SetPasvMode(data == "active" ? MODE_ACTIVE : MODE_PASSIVE);
    if (encoding == "latin1")
        server.SetEncodingType(ENCODING_CUSTOM, L"ISO-8859-1");
    else
        server.SetEncodingType(ENCODING_UTF8);
    Credentials credentials;
    credentials.logonType_ = LogonType::normal;
    credentials.SetPass(wide(argv[4]));
    session.run(CConnectCommand(server, ServerHandle(), credentials, false));
    session.run(CListCommand());
    CServerPath const directory(session.listed(), wide(argv[7]));

    std::string line;
    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        std::string verb, first, second;
        words >> verb >> first >> second;
        auto path = directory;
        auto name = name_of(first);
        // Files of trees stand in directories.
        if (auto const slash = name.rfind('/'); slash != std::wstring::npos) {
            path = CServerPath(directory, name.substr(0, slash));
            name = name.substr(slash + 1);
        }
        if (verb == "list") {
            session.run(CListCommand(directory, std::wstring(), LIST_FLAG_REFRESH));
            CDirectoryListing listing;
            session.engine().CacheLookup(directory, listing);
            for (size_t i = 0; i < listing.size(); ++i) std::cout << fz::to_utf8(listing[i].name) << std::endl;
        } else if (verb == "upload" || verb == "resume-upload") {
            fz::file_reader_factory const file(wide(unhex(second)), session.threads());
            session.run(CFileTransferCommand(fz::reader_factory_holder(file), path, name, transfer_flags::none));
        } else if (verb == "download" || verb == "resume-download") {
            fz::file_writer_factory const file(wide(unhex(second)), session.threads());
            session.run(CFileTransferCommand(fz::writer_factory_holder(file), path, name, transfer_flags::download));
        } else if (verb == "rename") {
            session.run(CRenameCommand(directory, name, directory, name_of(second)));
        } else if (verb == "delete") {
            session.run(CDeleteCommand(directory, {name}));
        } else if (verb == "mkdir") {
            session.run(CMkdirCommand(CServerPath(directory, name), transfer_flags::none));
        } else if (verb == "rmdir") {
            session.run(CRemoveDirCommand(directory, name));
        } else {
            std::cerr << "unknown job " << verb << std::endl;
            return 1;
        }
    }
    session.engine().Execute(CDisconnectCommand());
    return 0;
}
