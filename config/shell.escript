%% Run by `rebar3 shell' before the prompt: starts portmapper, or ends the node
%% with the one message that tells why it cannot.

main(_Arguments) ->
    Template = [time, " ", level, ": ", msg, "\n"],
    Formatter = #{legacy_header => false, single_line => true, template => Template},
    ok = logger:update_formatter_config(default, Formatter),
    %% OTP's reports of an application that does not start would bury ours.
    IsReport = fun(#{msg := {report, _}}, _) -> stop; (_, _) -> ignore end,
    ok = logger:add_primary_filter(starting, {IsReport, []}),
    {ok, [Config]} = file:consult("config/shell.config"),
    ok = application:load(portmapper),
    ok = application:set_env(Config),
    Started = application:ensure_all_started(portmapper),
    ok = logger:remove_primary_filter(starting),
    ok = logger_std_h:filesync(default),
    case Started of
        {ok, _} -> ok;
        {error, _} -> erlang:halt(1)
    end.
