%% @doc A handler of `logger' that sends to the system log, or the journal in its
%% stead: for a node in the background. Each message opens the socket anew, so
%% that a system log which restarts, or comes later, gets the next one; without
%% one messages are lost. Nothing here waits.
%%
%% ```
%% {kernel, [{logger, [{handler, default, portmapper_syslog, #{}}]}]}
%% '''
%%
%% `config => #{socket => Path}' names another socket than `/dev/log'.
-module(portmapper_syslog).

-export([log/2]).

%% Facility daemon (RFC 3164, 4.1.1).
-define(FACILITY, 3).

%% @private
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{level := Level} = Event, #{formatter := {Formatter, FormatterConfig}} = Config) ->
    Text = Formatter:format(Event, one_line(FormatterConfig)),
    Header = io_lib:format("<~b>epmd[~s]: ", [?FACILITY bsl 3 bor severity(Level), os:getpid()]),
    send(maps:get(socket, maps:get(config, Config, #{}), "/dev/log"), [Header, Text]).

%% The system log has the time.
one_line(Config) ->
    Config#{single_line => true, legacy_header => false, template => [msg]}.

send(Path, Text) ->
    case gen_udp:open(0, [local, binary, {active, false}]) of
        {ok, Socket} ->
            _ = gen_udp:send(Socket, {local, Path}, 0, unicode:characters_to_binary(Text)),
            gen_udp:close(Socket);
        {error, _} ->
            ok
    end.

severity(emergency) -> 0;
severity(alert) -> 1;
severity(critical) -> 2;
severity(error) -> 3;
severity(warning) -> 4;
severity(notice) -> 5;
severity(info) -> 6;
severity(debug) -> 7.
