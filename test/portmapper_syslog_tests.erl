-module(portmapper_syslog_tests).

-include_lib("eunit/include/eunit.hrl").

levels_become_severities_test_() ->
    with_log(fun(Log, Config) ->
        Levels = [emergency, alert, critical, error, warning, notice, info, debug],
        [
            begin
                ok = log(Level, "tschüß ~p", [Level], Config),
                Text = unicode:characters_to_binary(["tschüß ", atom_to_list(Level)]),
                ?assertEqual({Level, Text}, system_log:next(Log))
            end
         || Level <- Levels
        ]
    end).

a_message_is_one_line_test_() ->
    with_log(fun(Log, Config) ->
        ok = log(error, "~p", [lists:seq(1000, 1200)], Config),
        {error, Text} = system_log:next(Log),
        ?assertEqual(nomatch, string:find(Text, "\n"))
    end).

a_log_that_starts_anew_gets_the_next_message_test_() ->
    with_log(fun(Log, Config) ->
        ok = system_log:close_socket(Log),
        ok = log(error, "nobody hears this", [], Config),
        ok = file:delete(system_log:path(Log)),
        ok = log(error, "nor this", [], Config),
        ok = system_log:open_socket(Log),
        ok = log(error, "but this", [], Config),
        ?assertEqual({error, <<"but this">>}, system_log:next(Log))
    end).

a_log_that_does_not_read_holds_nobody_up_test_() ->
    with_log(fun(_Log, Config) ->
        Long = lists:duplicate(4000, $x),
        [ok = log(error, "~s", [Long], Config) || _ <- lists:seq(1, 1000)],
        %% Far too long for one message.
        ok = log(error, "~s", [lists:duplicate(1_000_000, $x)], Config)
    end).

log(Level, Format, Arguments, Config) ->
    Event = #{level => Level, msg => {Format, Arguments}, meta => #{time => 0}},
    portmapper_syslog:log(Event, Config).

with_log(Test) ->
    WithConfig = fun(Log) ->
        Socket = #{socket => system_log:path(Log)},
        Test(Log, #{formatter => {logger_formatter, #{}}, config => Socket})
    end,
    {timeout, 30, fun() -> system_log:with(WithConfig) end}.
